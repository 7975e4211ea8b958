/** A recorded run as its rows say, and the model that can compute it again. */
import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { parseOptions } from '../sampling/options.ts';
import type { UsedModel } from '../backend/registry.ts';
import { currentCatalog, useModel } from '../backend/registry.ts';
import type { PromptPart } from '../generate/prompt-parts.ts';
import type { RecordedConstraint } from '../generate/record.ts';
import { buildIdOf, constraintOf } from '../generate/record.ts';
import type { SamplerOptions } from '../sampling/sampler.ts';

export interface RecordedRun {
  id: number;
  modelName: string;
  /** SHA-256 of the model's file, hex. */
  digest: string;
  promptIds: number[];
  /** Whose words the prompt is; null where that was not recorded. */
  parts: PromptPart[] | null;
  /** What was written, and behind it the token that ended the answer where the model ended it. */
  outputIds: number[];
  /** Tokens of it that were written. */
  written: number;
  doneReason: string;
  /** Strings that would have ended the answer. */
  stops: string[];
  /** Logit of each of outputIds as recorded; null where none was. */
  logits: (number | null)[];
  sampler: SamplerOptions;
  constraint: RecordedConstraint | null;
  /** What classify chose among, by the whole label and not token by token; null where the sampler chose. */
  labels: { label: string; probability: number }[] | null;
  precision: 'auto' | 'f32' | 'q8';
  heldAs: string | null;
  buildId: string | null;
}

/** Read a run that the caller may see. Throws undefinedObject for others, existing or not. */
export function readRun(id: number): RecordedRun {
  const nobody = (): never =>
    raise(SQLSTATE.undefinedObject, `run ${id} does not exist`, { hint: 'runs you may see: hartonomous.run_list' });
  // Beyond 2^53 digits are lost, and 2^63, which the largest bigint becomes, only our own host refuses to send.
  if (!Number.isSafeInteger(id)) nobody();
  const row = query(
    `select model_name, encode(model_digest, 'hex') as digest, array_to_json(prompt_ids) as prompt_ids,
       array_to_json(output_ids) as output_ids, sampling::json as sampling, held_as, build_id, erased_at::text as erased_at,
       prompt_parts::json as parts, end_id, end_logit::float8 as end_logit, done_reason, options::json as options,
       (select array_agg(t.logit::float8 order by t.position) from hartonomous.run_tokens t
        where t.run_id = r.id and not t.is_prompt) as logits
     from hartonomous.runs r where id = $1::bigint and hartonomous._sees_runs_of(caller)`,
    [id],
  )[0];
  if (row === undefined) return nobody();
  if (row.erased_at !== null) {
    raise(SQLSTATE.objectNotInPrerequisiteState, `run ${id} was erased at ${String(row.erased_at)}`);
  }
  const { constraint, labels, ...settings } = row.sampling as Record<string, unknown>;
  const { sampler, precision, stop, ablate } = parseOptions(settings);
  if (ablate !== null) {
    raise(
      SQLSTATE.objectNotInPrerequisiteState,
      `run ${id} was written with parts of the network left out (option ablate), so its tokens are not the model's`,
    );
  }
  const unrecorded = constraint === undefined ? constraintOption(row.options as Record<string, unknown>) : null;
  if (unrecorded !== null) {
    raise(
      SQLSTATE.objectNotInPrerequisiteState,
      `run ${id} was written under option ${unrecorded} before constraints were recorded, so which tokens were allowed is not known`,
    );
  }
  const output = Array.from(row.output_ids as number[]);
  const logits = (row.logits as (number | null)[] | null) ?? [];
  const ended = row.end_id === null ? [] : [Number(row.end_id)];
  return {
    id,
    modelName: String(row.model_name),
    digest: String(row.digest),
    promptIds: Array.from(row.prompt_ids as number[]),
    parts: row.parts as PromptPart[] | null,
    outputIds: [...output, ...ended],
    written: output.length,
    doneReason: String(row.done_reason),
    stops: stop,
    logits: [...output.map((_, step) => logits[step] ?? null), row.end_logit as number | null],
    sampler,
    constraint: constraintOf(constraint),
    labels: (labels ?? null) as RecordedRun['labels'],
    precision,
    heldAs: row.held_as === null ? null : String(row.held_as),
    buildId: row.build_id === null ? null : String(row.build_id),
  };
}

/** The option that said what the answer had to be; null for none. */
function constraintOption({ response_format: format, grammar }: Record<string, unknown>): string | null {
  if (typeof grammar === 'string') return 'grammar';
  const type = (format as { type?: unknown } | null | undefined)?.type ?? 'text';
  return type === 'text' ? null : 'response_format';
}

export interface RunModel extends UsedModel {
  buildId: string | null;
}

const short = (digest: string): string => digest.slice(0, 12);

/** The model of a run: that of the same digest, whatever its name is now. Throws naming both digests when it is gone. */
export function modelOf(run: RecordedRun): RunModel {
  const catalog = currentCatalog();
  const row =
    catalog.models.find((model) => model.digest === run.digest && model.name === run.modelName) ??
    catalog.models.find((model) => model.digest === run.digest);
  if (row === undefined) {
    const namesake = catalog.models.find((model) => model.name === run.modelName);
    const now =
      namesake === undefined
        ? 'no model here has that digest'
        : `${run.modelName} has digest ${short(namesake.digest)} now`;
    raise(
      SQLSTATE.undefinedObject,
      `run ${run.id} was written by model ${run.modelName} with digest ${short(run.digest)}, ${now}`,
      { hint: 'ingest that file again to explain the run' },
    );
  }
  return { ...useModel(catalog, row.name, run.precision), buildId: buildIdOf(catalog) };
}
