/**
 * What an engine does: it takes requests that callers left, and computes all of a model together. Each of its turns is a
 * transaction of its own, so that it holds no snapshot for long. Nothing of a role's reaches another: caches are taken by the
 * role's oid, and an answer goes to who asked.
 */
import type { Catalog } from '../../backend/catalog.ts';
import { freeCachesOf } from '../../backend/caches.ts';
import { engineCatalog, fits, heldBytes, unloadModels, useDescription, useModel } from '../../backend/registry.ts';
import type { EngineHost } from '../../db.ts';
import { counterStoreOf, poll, query, servedEngine, within } from '../../db.ts';
import { raise, SQLSTATE } from '../../errors.ts';
import type { Model } from '../../model/model.ts';
import { CHUNK_TOKENS, MAX_SEQUENCES } from '../../model/model.ts';
import type { Automaton } from '../../sampling/constraint/automaton.ts';
import { buildIdOf } from '../record.ts';
import { Scheduler } from '../scheduler.ts';
import { AskedPriorities } from './asked-priorities.ts';
import type { RequestFacts } from './facts.ts';
import { engineNumbers, newEngineFacts, newRequestFacts, requestNumbers } from './facts.ts';
import { CHOOSING_MS, Grammars } from './grammars.ts';
import { Many, ManyJob } from './many.ts';
import type { EngineRequest, LastMessage, SessionCall, UnloadRequest } from './messages.ts';
import { failure, storedOf } from './messages.ts';
import { ReadingJob } from './reading-job.ts';
import { Readings } from './readings.ts';
import { openServedCall } from './session/open.ts';
import { ServedCall } from './session/served-call.ts';
import type { Client } from './serving.ts';
import { Serving } from './serving.ts';
import type { Turn } from './turns.ts';
import { Turns } from './turns.ts';

/** Milliseconds of a turn after which no further pass begins. */
const TURN_MS = 20;

interface Left extends Turn {
  id: number;
  request: EngineRequest | SessionCall;
  since: number; // milliseconds since 1970
}

/** One that is being answered. */
interface Open {
  readonly model: Model;
  /** What its answers are constrained by. */
  readonly automata: readonly Automaton[];
  /** Nobody waits for it any more. */
  leave(): void;
}

/** Milliseconds in which a request's prompt and grammar have to be ready; else its caller computes it, and nobody else waits for that. */
const PREPARE_MS = 200;

/** Milliseconds between two passes after which no further request is made ready. */
const PREPARING_MS = 100;

/** Milliseconds between two passes after which no further piece is computed of texts that are read and not answered. */
const READING_MS = 20;

/** Milliseconds after which the tables are read again though nobody asks: models that were stopped or removed go then. */
const TIDY_MS = 2000;

/** Of a statement, in the transaction of a turn: with requests, which are left to their callers then, and without. */
const LOCK_WAIT = '200ms';
const NO_LOCK_WAIT = '1ms';

/** What a caller hears whose request is to be computed where it was made. */
const UNSEEN = [JSON.stringify({ unseen: true })];

/** By model. */
const schedulers = new Map<Model, Scheduler>();
const open = new Map<number, Open>();
/** Calls of many prompts that are being answered, of which the latest prompt began last; and whose turn it is. */
let manies: Many[] = [];
const manyTurns = new Turns();
/** Requests that were taken and have not begun, those that came first first. */
const arrived: Left[] = [];
const turns = new Turns();
const grammars = new Grammars(() => new Set([...open.values()].flatMap(({ automata }) => automata)));
/** What others see of this engine. */
const facts = newEngineFacts();
const readings = new Readings(facts);
/** Roles that have used a model since it was loaded, and have not said that they need it no more. */
const users = new WeakMap<Model, Set<number>>();
/** When the tables were read last; milliseconds since 1970. */
let tidiedAt = 0;

function isUsed(model: Model): boolean {
  return readings.uses(model) || [...open.values()].some((each) => each.model === model);
}

function isComputing(): boolean {
  return open.size > 0 || readings.size > 0;
}

function isBusy(): boolean {
  return isComputing() || arrived.length > 0;
}

/**
 * Do some of the work that there is; whether there is more. Throws in a process that is no engine, and in an engine to which the
 * settings of its database leave no requests to take: it ends then, and nobody waits for it.
 */
export function turn(): boolean {
  const host = servedEngine();
  if (host === null) raise(SQLSTATE.objectNotInPrerequisiteState, 'this process can serve no requests of an engine');
  refuseForeign();
  const until = Date.now() + TURN_MS;
  do {
    const ready = Date.now() + PREPARING_MS;
    takeRequests(host, ready);
    letGo(host);
    beginPrompts(ready);
    for (const scheduler of schedulers.values()) if (scheduler.size > 0) pass(scheduler);
    readings.run(Date.now() + READING_MS);
  } while (isBusy() && Date.now() < until);
  show(host);
  return isBusy();
}

function show(host: EngineHost): void {
  host.show?.(engineNumbers(Object.assign(facts, heldBytes())));
}

function pass(scheduler: Scheduler): void {
  const [since, before] = [Date.now(), facts.sequences];
  scheduler.pass();
  if (facts.sequences === before) return;
  facts.passes++;
  facts.latest = facts.sequences - before;
  facts.busyMs += Date.now() - since;
}

/**
 * Throws where functions of another build served here before: they know of requests, and hold models, that these do not. The engine
 * ends then, and who waited computes itself.
 */
function refuseForeign(): void {
  const shared = globalThis as { hartonomousEngine?: object };
  shared.hartonomousEngine ??= open;
  if (shared.hartonomousEngine === open) return;
  raise(SQLSTATE.objectNotInPrerequisiteState, 'functions of another build were installed, so this engine ends');
}

/** Take what was left, and begin some of it, by turns. */
function takeRequests(host: EngineHost, until: number): void {
  const taken = host.take();
  if (arrived.length + taken.length === 0 && Date.now() < tidiedAt + TIDY_MS) return;
  const catalog = readTables(arrived.length + taken.length === 0 ? NO_LOCK_WAIT : LOCK_WAIT);
  const priorities = new AskedPriorities();
  for (const [id, role, text, since = Date.now()] of taken) {
    const request = JSON.parse(text) as Left['request'] | UnloadRequest;
    if ('unload' in request) unload(host, id, role, request);
    else arrived.push({ id, role, priority: priorities.of(request), request, since });
  }
  for (const [model, scheduler] of schedulers) if (scheduler.size === 0) schedulers.delete(model);
  while (arrived.length > 0) {
    const left = turns.take(arrived, (each) => each);
    if (host.gone(left.id)) host.finish(left.id);
    else if (catalog === null) reply(host, left.id, 'call' in left.request ? ServedCall.nothing : UNSEEN);
    else if ('call' in left.request) beginCall(host, catalog, left, left.request);
    else beginRequest(host, catalog, left, left.request);
    if (Date.now() >= until) return;
  }
}

/** Begin to answer prompts of calls that have many: of one call after the other, by turns. */
function beginPrompts(until: number): void {
  do {
    const next = manies.filter(({ hasNext }) => hasNext);
    if (next.length === 0) return;
    const many = manyTurns.take(next, ({ client }) => client);
    manies = [...manies.filter((other) => other !== many), many];
    within(PREPARE_MS, () => many.beginNext(schedulerOf(many.model)));
  } while (Date.now() < until);
}

function schedulerOf(model: Model): Scheduler {
  const scheduler = schedulers.get(model) ?? new Scheduler(model, MAX_SEQUENCES, CHUNK_TOKENS, poll, CHOOSING_MS);
  schedulers.set(model, scheduler);
  return scheduler;
}

/** Null where somebody holds a lock on the tables: maybe a caller, who waits for the engine, so the engine does not wait for long. */
function readTables(wait: string): Catalog | null {
  tidiedAt = Date.now();
  try {
    query(`select set_config('lock_timeout', $1::text, true)`, [wait]);
    return engineCatalog(isUsed);
  } catch {
    return null;
  }
}

/** Let go of requests that nobody waits for any more. */
function letGo(host: EngineHost): void {
  readings.letGo(host);
  for (const [id, each] of open) {
    if (!host.gone(id)) continue;
    each.leave();
    close(id);
    host.finish(id);
  }
}

function close(id: number): void {
  const each = open.get(id);
  open.delete(id);
  manies = manies.filter((many) => many !== each);
}

/** The last that a caller hears. */
function reply(host: EngineHost, id: number, texts: readonly string[]): void {
  show(host); // before its caller goes on, who may look
  close(id);
  for (const text of texts) host.send(id, text);
  host.finish(id);
}

/** Free models that nobody computes with and that nobody else has used, unless that is for all; else only the caches of who asks. */
function unload(host: EngineHost, id: number, role: number, { unload, forAll }: UnloadRequest): void {
  const unloaded = unloadModels(unload, (model) => {
    if (isUsed(model)) return true;
    freeCachesOf(String(role), model);
    const others = users.get(model);
    others?.delete(role);
    return others !== undefined && others.size > 0 && !forAll;
  });
  const message: LastMessage = { unloaded };
  reply(host, id, [JSON.stringify(message)]);
}

/** Whether the engine sees the model and the functions that the caller sees, and has room for the model while it computes with others. */
function canTake(catalog: Catalog, { model, stored, precision, build }: EngineRequest): boolean {
  const row = catalog.models.find(({ id }) => id === model.id);
  return (
    row?.digest === model.digest &&
    row.unloadGeneration === model.unloadGeneration &&
    row.name === model.name &&
    storedOf(useDescription(catalog, row.name)) === stored &&
    buildIdOf(catalog) === build &&
    (!isComputing() || fits(catalog, row, precision))
  );
}

/** A request of a backend's own JavaScript. */
function beginRequest(host: EngineHost, catalog: Catalog, left: Left, request: EngineRequest): void {
  begin(host, catalog, left, request, {
    send: (message) => host.send(left.id, JSON.stringify(message)),
    reply: (message) => {
      if ('error' in message) facts.failures++;
      reply(host, left.id, [JSON.stringify(message)]);
    },
  });
}

/** A call of a backend that has none. */
function beginCall(host: EngineHost, catalog: Catalog, left: Left, call: SessionCall): void {
  let opened: ServedCall | null = null;
  try {
    const store = counterStoreOf(host, left.id);
    opened = within(PREPARE_MS, () => openServedCall(catalog, call, Math.floor(left.since), store));
  } catch {
    // The backend finds the same, and says it.
  }
  if (opened === null) {
    reply(host, left.id, ServedCall.nothing);
    return;
  }
  const { request } = opened;
  host.note?.(left.id, requestNumbers(newRequestFacts()), request.model.id);
  begin(host, catalog, left, request, {
    send: (message) => {
      if ('rows' in message) opened.charge(message.rows);
      else opened.see(message);
    },
    reply: (message) => reply(host, left.id, opened.finish(message)),
  });
}

function begin(
  host: EngineHost,
  catalog: Catalog,
  { id, role, priority, since }: Left,
  request: EngineRequest,
  hears: Pick<Client, 'send' | 'reply'>,
): void {
  try {
    if (!canTake(catalog, request)) {
      hears.reply({ unseen: true });
      return;
    }
    const used = useModel(catalog, request.model.name, request.precision, { admitted: true });
    const { model } = used.entry;
    users.set(model, (users.get(model) ?? new Set()).add(role));
    const note = (noted: RequestFacts): void => host.note?.(id, requestNumbers(noted), request.model.id);
    const told: Omit<Client, 'request'> = { role, priority, since, note, ...hears };
    if ('reading' in request) {
      readings.add(new ReadingJob(id, { ...told, request }, used, facts));
      return;
    }
    if ('prompts' in request) {
      const client = { ...told, request };
      const many = new Many(used, facts, client, grammars);
      const ready = (): void => {
        open.set(id, many);
        manies.push(many);
      };
      readings.add(new ManyJob(id, client, used, many, ready));
      return;
    }
    const serving = within(PREPARE_MS, () => new Serving(used, facts, { ...told, request }, grammars));
    const scheduler = schedulerOf(model);
    const automata = serving.automaton === null ? [] : [serving.automaton];
    open.set(id, { model, automata, leave: () => scheduler.remove(serving) });
    scheduler.add(serving);
  } catch (error) {
    hears.reply(failure(error));
  }
}
