/** `chat` and `run` as a person at a terminal meets them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { hartonomous } from './program.ts';
import { CTRL_C, CTRL_D, CTRL_Z, ENTER, PseudoTerminal, UP } from './pseudo-terminal.ts';
import type { PseudoTerminalOptions } from './pseudo-terminal.ts';

const TINY = join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf');
/** What a terminal puts around a paste, and what the program writes to have that and to have it no longer. */
const PASTE = '\x1b[200~';
const PASTED = '\x1b[201~';
const MARK_PASTES = '\x1b[?2004h';
const NO_MORE_PASTES = '\x1b[?2004l';
/** A shell with jobs: one that pauses gives way to a line of a person, and then goes on. */
const WITH_JOBS = 'set -m; "$@"; until echo paused; read -r line; fg; do :; done';
const GREETING = 'Hello! How can I help you?';

let database: TestDatabase;
/** The user's data folder, with history and saved conversations. */
let home: string;

beforeAll(async () => {
  database = await createDatabase();
  home = mkdtempSync(join(tmpdir(), 'hartonomous-chat-'));
  await ingestFile(database.url, TINY, 'tiny');
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'zoo');
});

afterAll(async () => {
  await database.drop();
  rmSync(home, { recursive: true, force: true });
});

const terminals: PseudoTerminal[] = [];

async function open(args: string[], options: Partial<PseudoTerminalOptions> = {}): Promise<PseudoTerminal> {
  const terminal = new PseudoTerminal(args, {
    url: database.url,
    ...options,
    env: { XDG_DATA_HOME: home, ...options.env },
  });
  terminals.push(terminal);
  await terminal.prompt();
  return terminal;
}

async function chat(options: Partial<PseudoTerminalOptions> = {}): Promise<PseudoTerminal> {
  return open(['chat', 'tiny', '--temperature', '0'], options);
}

/** Run `body` while every statement that reads about models waits; it is given what waits for the first of them. */
async function whileNothingIsRead(body: (waiting: () => Promise<void>) => Promise<void>): Promise<void> {
  const client = await database.pool.connect();
  try {
    await client.query('begin; lock table hartonomous.models in access exclusive mode');
    await body(async () => {
      for (;;) {
        const { rowCount } = await client.query(
          "select from pg_locks where relation = 'hartonomous.models'::regclass and not granted",
        );
        if (rowCount! > 0) return;
        await sleep(10);
      }
    });
  } finally {
    await client.query('rollback');
    client.release();
  }
}

describe('a conversation', () => {
  test('answers, remembers what was said, and ends with /bye', async () => {
    const terminal = await chat();
    expect(await terminal.ask('hello')).toBe(GREETING);
    expect(await terminal.ask('how are you?')).toBe("I'm doing well, thank you for asking!");
    expect(await terminal.ask('/show messages')).toBe(
      [
        'user: hello',
        `assistant: ${GREETING}`,
        'user: how are you?',
        "assistant: I'm doing well, thank you for asking!",
      ].join('\n'),
    );
    terminal.type('/bye' + ENTER);
    expect(await terminal.end()).toBe(0);
  });

  test('computes only what is new of a second prompt', async () => {
    const terminal = await chat();
    await terminal.ask('/set verbose');
    const rates = await terminal.ask('hello');
    expect(rates).toMatch(
      /^Hello! How can I help you\?\n\ntotal duration: +\S+s\nload duration: +\S+s\nprompt eval count: +12 token\(s\)\nprompt eval duration: .*\nprompt eval rate: .*\neval count: +8 token\(s\)\neval duration: .*\neval rate: +(\d+\.\d\d tokens\/s|too fast to tell)$/,
    );
    const second = await terminal.ask('hello');
    const { rows } = await database.pool.query<{ computed: number; tokens: number }>(
      `select prompt_eval_count as computed, cardinality(prompt_ids) as tokens from hartonomous.runs order by id desc limit 1`,
    );
    const { computed, tokens } = rows[0]!;
    expect(second).toContain(`prompt eval count:    ${computed} token(s)`);
    // Two turns, the first prompt and its answer of them known.
    expect(tokens).toBeGreaterThan(28);
    expect(computed).toBeLessThanOrEqual(tokens - 12 - 8);
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('takes a prompt of several lines between triple quotes', async () => {
    const terminal = await chat();
    terminal.type(`"""one${ENTER}`);
    await terminal.see('... ');
    terminal.type(`two "quoted" words${ENTER}three"""${ENTER}`);
    await terminal.prompt(2);
    expect(await terminal.ask('/show messages')).toMatch(/^user: one\ntwo "quoted" words\nthree\nassistant: /);
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('clears a line and a multi-line prompt at Ctrl-C and goes on', async () => {
    const terminal = await chat();
    terminal.type('never sent');
    await terminal.see('never sent');
    terminal.type(CTRL_C);
    await terminal.see('use Ctrl-D or /bye to leave');
    terminal.type(`"""never sent either${ENTER}`);
    await terminal.see('... ');
    terminal.type(CTRL_C);
    await terminal.prompt(3);
    expect(await terminal.ask('hello')).toBe(GREETING);
    expect(await terminal.ask('/show messages')).not.toContain('never');
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('begins with what answers, and where help is', async () => {
    const terminal = await chat();
    expect(terminal.lines()[0]).toBe('tiny answers here; /? for help');
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('takes what is pasted as one prompt', async () => {
    const terminal = await chat();
    terminal.type(`${PASTE}/etc/one\ntwo\n\nthree${PASTED}`);
    await terminal.see('three');
    terminal.type(` four${ENTER}`);
    await terminal.prompt(2);
    expect(await terminal.ask('/show messages')).toMatch(/^user: \/etc\/one\ntwo\n\nthree four\nassistant: /);
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
    expect(terminal.raw.endsWith(NO_MORE_PASTES), 'the terminal is left as it was').toBe(true);
  });

  test('keeps a paste as one prompt of its history, which Up shows and a later session has', async () => {
    const first = await chat();
    for (const [line, pasted] of [
      ['before', ''],
      ['one', `\ntwo${PASTED}`],
      ['three', `\nfour\n${PASTED}`],
    ]) {
      first.type(`${pasted === '' ? '' : PASTE}${line}${pasted}`);
      await first.ask('');
    }
    first.type(UP);
    await first.see(/>>> three\nfour$/);
    first.type(UP);
    await first.see(/>>> one\ntwo$/);
    first.type(`!${ENTER}`);
    await first.prompt(5);
    expect(await first.ask('/show messages')).toMatch(/user: one\ntwo!\nassistant: /);
    first.type(CTRL_D);
    await first.end();
    const second = await chat();
    second.type(UP + UP);
    await second.see(/>>> one\ntwo!$/);
    second.type(UP + UP + UP);
    await second.see(/>>> before$/);
    second.type(CTRL_C + CTRL_D);
    expect(await second.end()).toBe(0);
  });

  test('pauses at Ctrl-Z, leaves the terminal as it was, and shows its line when it goes on', async () => {
    const terminal = await chat({ shell: WITH_JOBS, columns: 40 });
    await terminal.ask('hello');
    const line = `what is ${'x'.repeat(50)}`;
    terminal.type(line);
    await terminal.see(/x{28}\nx{22}$/);
    terminal.type(CTRL_Z);
    await terminal.see(/paused$/);
    expect(terminal.raw.lastIndexOf(NO_MORE_PASTES)).toBeGreaterThan(terminal.raw.lastIndexOf(MARK_PASTES));
    terminal.type(`a shell's line${ENTER}`);
    await terminal.see(/a shell's line\n(.*\n)+>>> what is x{28}\nx{22}$/);
    expect(terminal.raw.lastIndexOf(MARK_PASTES)).toBeGreaterThan(terminal.raw.lastIndexOf(NO_MORE_PASTES));
    terminal.type(CTRL_C);
    await terminal.see(/leave\n>>> $/);
    // So it does while an answer is computed, whose keys are still not shown.
    await whileNothingIsRead(async (waiting) => {
      terminal.type(`/explain Hello${ENTER}`);
      await waiting();
      terminal.type(CTRL_Z);
      await terminal.see(/paused[^]*paused$/);
      terminal.type(`${ENTER}/show messages`);
    });
    await terminal.see(/run \d+, step 0[^]*>>> \/show messages$/);
    terminal.type(CTRL_C + CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('keeps what is typed during an answer for the next prompt, around Ctrl-C', async () => {
    const terminal = await chat();
    await terminal.ask('hello');
    await whileNothingIsRead(async (waiting) => {
      terminal.type(`how are you?${ENTER}`);
      await waiting();
      terminal.type(`/show mess${CTRL_C}ages`);
      await terminal.see(/>>> \/show messages$/);
      terminal.type(ENTER);
      await terminal.see(/user: hello\nassistant: .*\n+>>> $/);
    });
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('goes on after Ctrl-C during /explain', async () => {
    const terminal = await chat();
    await terminal.ask('hello');
    await whileNothingIsRead(async (waiting) => {
      terminal.type(`/explain Hello${ENTER}`);
      await waiting();
      terminal.type(CTRL_C);
      await terminal.prompt(3);
    });
    expect(await terminal.ask('/show messages')).toBe(`user: hello\nassistant: ${GREETING}`);
    expect(await terminal.ask('/explain Hello')).toMatch(/components sum to the logit/);
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('stops what has just been asked at a Ctrl-C that comes with it', async () => {
    const terminal = await chat();
    await terminal.ask('hello');
    for (const line of ['/explain Hello', 'how are you?']) {
      const prompts = terminal.prompts();
      terminal.type(`${line}${ENTER}${CTRL_C}`);
      await terminal.prompt(prompts + 1);
      expect(terminal.prompts()).toBe(prompts + 1);
      expect(await terminal.ask('/show messages')).toContain(`user: hello\nassistant: ${GREETING}`);
    }
    expect(terminal.screen()).not.toMatch(/components sum|doing well|to leave/);
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('says why it ends when its connection is lost between two prompts', async () => {
    const terminal = await chat({ columns: 120 });
    await terminal.ask('hello');
    await database.pool.query(
      `select pg_terminate_backend(pid, 10000) from pg_stat_activity
       where application_name = 'hartonomous' and datname = current_database()`,
    );
    terminal.type(`hello${ENTER}`);
    expect(await terminal.end()).toBe(1);
    expect(terminal.screen()).toContain(
      'the connection to the database was lost: terminating connection due to administrator command\nrun it again',
    );
  });

  test('leaves the terminal as it was at SIGTERM', async () => {
    const terminal = await chat();
    terminal.kill();
    await terminal.end();
    expect(terminal.raw.endsWith(NO_MORE_PASTES)).toBe(true);
  });

  test('keeps its history over sessions, privately', async () => {
    const first = await chat();
    await first.ask('hello');
    await first.ask('/set nohistory');
    await first.ask('what is 2 + 2?');
    first.type(CTRL_D);
    await first.end();
    expect(statSync(join(home, 'hartonomous', 'history')).mode & 0o077).toBe(0);
    const second = await chat();
    // The latest line that was kept is the command that ended the keeping; before it stands the prompt.
    second.type(UP + UP);
    await second.see(/>>> hello$/);
    second.type(ENTER);
    await second.see(GREETING);
    second.type(CTRL_D);
    expect(await second.end()).toBe(0);
  });
});

describe('slash commands', () => {
  let terminal: PseudoTerminal;
  beforeAll(async () => {
    terminal = await chat({ rows: 40 });
  });
  afterAll(async () => {
    terminal.type(CTRL_D);
    await terminal.end();
  });

  test.each([
    ['/?', /^Available Commands:\n {2}\/set /],
    ['/? set', /\/set parameter NAME VALUE/],
    ['/help show', /\/show template/],
    ['/? shortcuts', /Ctrl \+ c/],
    ['/set', /\/set system/],
    ['/show', /\/show info/],
    ['/show info', /^ {0,2}Model\n {4}architecture +qwen2\n/],
    ['/show template', /add_generation_prompt/],
    ['/show system', /^no system is known of tiny$/],
    ['/show license', /^(no license is known of tiny|MIT|mit)/i],
    ['/set parameter temperature 0', /^set parameter temperature to 0$/],
    ['/set parameter stop you thank', /^set parameter stop to you, thank$/],
    ['/show parameters', /set here:\n +temperature +0\n +stop +\["you","thank"\]$/],
    ['hello', /^Hello! How can I help$/],
    ['/set parameter temprature 1', /^unknown option "temprature" \(did you mean temperature\?\)$/],
    ['/set parameter temperature warm', /^option temperature must be a number between 0 and 100, got "warm"/],
    ['/set parameter temperature', /^usage: \/set parameter NAME VALUE$/],
    ['/set system You are terse.', /^set the system message$/],
    ['/show system', /^You are terse\.$/],
    ['/set nowordwrap', /^set nowordwrap$/],
    ['/set quiet', /^set quiet mode$/],
    ['/set colour blue', /^unknown command \/set colour \(\/\? set lists them\)$/],
    ['/show everything', /^unknown command \/show everything/],
    ['/dance', /^unknown command \/dance \(\/\? lists the commands\)$/],
    ['/clear', /^cleared the conversation$/],
    ['/show messages', /^no messages yet$/],
    ['/load nobody', /^model nobody does not exist \(names are in hartonomous\.model_list\)$/],
    ['/save ../escape', /^a conversation's name has letters/],
  ])('%s', async (line, answer) => {
    expect(await terminal.ask(line)).toMatch(answer);
  });

  test('/explain tells why the latest answer has a word', async () => {
    const own = await chat({ rows: 60 });
    expect(await own.ask('/explain Hello')).toBe('nothing was answered yet');
    await own.ask('hello');
    expect(await own.ask('/explain')).toMatch(/^usage: \/explain WORD/);
    expect(await own.ask('/explain nonsense')).toMatch(/nonsense/);
    const explained = await own.ask(`/explain why did you say 'help'?`);
    expect(explained).toMatch(/run \d+, step 5; components sum to the logit/);
    expect(await own.ask('hello'), 'and the conversation goes on').toMatch(/\S/);
    own.type(CTRL_D);
    expect(await own.end()).toBe(0);
  });

  test('/save and /load keep a conversation, and `chat NAME` goes on with it', async () => {
    const first = await chat();
    await first.ask('hello');
    expect(await first.ask('/save greeting')).toBe('saved the conversation as greeting');
    await first.ask('/clear');
    expect(await first.ask('/load greeting')).toBe('loaded the conversation greeting with tiny');
    expect(await first.ask('/show messages')).toBe(`user: hello\nassistant: ${GREETING}`);
    expect(await first.ask('/load zoo')).toBe('loaded model zoo');
    expect(await first.ask('/show messages')).toBe('no messages yet');
    first.type(CTRL_D);
    await first.end();
    const folder = join(home, 'hartonomous', 'conversations');
    expect(readdirSync(folder)).toEqual(['greeting.json']);
    expect(statSync(join(folder, 'greeting.json')).mode & 0o077).toBe(0);
    const second = await open(['chat', 'greeting']);
    expect(await second.ask('/show messages')).toBe(`user: hello\nassistant: ${GREETING}`);
    second.type(CTRL_D);
    expect(await second.end()).toBe(0);
  });
});

describe('the terminal itself', () => {
  test('may be narrow: lines break between words', async () => {
    const terminal = await chat({ columns: 20 });
    expect(await terminal.ask('hello')).toBe('Hello! How can I\nhelp you?');
    await terminal.ask('/set nowordwrap');
    await terminal.ask('/clear');
    terminal.type(`hello${ENTER}`);
    await terminal.see('Hello! How can I hel\np you?');
    await terminal.prompt();
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('shows a line as long as it is wide once, however fast it was typed', async () => {
    const terminal = await chat({ columns: 40 });
    const line = 'x'.repeat(76);
    terminal.type(line);
    await terminal.see(/x{40}$/m);
    terminal.type('\x7f\x7f漢');
    await terminal.see('漢');
    terminal.type('\x1b[H');
    terminal.type('y');
    await terminal.see('>>> y');
    const shown = terminal.lines().slice(1).join('').trimEnd();
    expect(shown).toBe(`>>> y${line.slice(2)}漢`);
    terminal.type(CTRL_C);
    await terminal.see('leave');
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('may not say how wide it is', async () => {
    const terminal = await chat();
    terminal.resize(0, 0);
    await terminal.ask('/clear');
    expect(await terminal.ask('hello')).toBe(GREETING);
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('may be resized: the next answer breaks at the new width', async () => {
    const terminal = await chat({ columns: 100 });
    expect(await terminal.ask('hello')).toBe(GREETING);
    await terminal.ask('/clear');
    terminal.resize(18, 24);
    terminal.type('hello again, how are');
    await terminal.see('hello again, h\now are');
    terminal.type(CTRL_C);
    await terminal.see(/leave/);
    terminal.type(`hello${ENTER}`);
    await terminal.see('Hello! How can I\nhelp you?');
    await terminal.prompt();
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('may be resized while a line is typed, which is shown once at each width', async () => {
    const terminal = await chat({ columns: 60 });
    const words = 'why is the sky blue and the grass green, tell me in a few words please';
    const shownAt = (columns: number): string => `>>> ${words}`.match(new RegExp(`.{1,${columns}}`, 'g'))!.join('\n');
    const shown = (): string => terminal.screen().slice(terminal.screen().indexOf('>>>'));
    terminal.type(words);
    await terminal.see(shownAt(60));
    for (const columns of [30, 100, 17, 45]) {
      terminal.resize(columns, 24);
      await expect.poll(shown, { timeout: 30_000 }).toBe(shownAt(columns));
    }
    terminal.type(`!${ENTER}`);
    await terminal.prompt(2);
    expect(await terminal.ask('/show messages')).toContain('few');
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test.each([{ NO_COLOR: '1' }, { TERM: 'dumb' }])('shows no colours under %o', async (env) => {
    const terminal = await chat({ env: env as Record<string, string> });
    terminal.type(`hello${ENTER}`);
    await terminal.see(GREETING);
    await terminal.ask('/show info');
    expect(terminal.colours()).toEqual([]);
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('shows prompts while a file takes the answers', async () => {
    const file = join(home, 'answers.txt');
    const terminal = await chat({ shell: `exec "$@" > '${file}'` });
    await terminal.ask('hello');
    await terminal.ask('/set verbose');
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
    expect(readFileSync(file, 'utf8')).toBe(`${GREETING}\n\n`);
  });

  test('run without a prompt converses, with one it answers and ends', async () => {
    const conversing = await open(['run', 'tiny', '--temperature', '0']);
    expect(await conversing.ask('hello')).toBe(GREETING);
    conversing.type(CTRL_D);
    expect(await conversing.end()).toBe(0);
    const asked = new PseudoTerminal(['run', 'tiny', 'hello', '--temperature', '0', '--verbose'], {
      url: database.url,
    });
    expect(await asked.end()).toBe(0);
    expect(asked.screen()).toMatch(/^Hello! How can I help you\?\n\ntotal duration: /);
  });
});

describe('without a terminal', () => {
  const call = (args: string[], stdin: string) =>
    hartonomous(args, { url: database.url, stdin, env: { XDG_DATA_HOME: home } });

  test('chat answers line after line of what is piped in', async () => {
    const { code, stdout, stderr } = await call(['chat', 'tiny', '--temperature', '0'], 'hello\n\nhow are you?\n');
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: `${GREETING}\n\nI'm doing well, thank you for asking!\n\n`,
      stderr: '',
    });
  });

  test('chat tells a mistake and goes on', async () => {
    const { code, stdout, stderr } = await call(['chat', 'tiny', '--temperature', '0'], '/dance\nhello\n');
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: `${GREETING}\n\n`,
      stderr: 'unknown command /dance (/? lists the commands)\n',
    });
  });

  test('--format json gives each answer with its facts', async () => {
    const { stdout } = await call(['run', 'tiny', '--temperature', '0', '--format', 'json'], 'hello');
    expect(JSON.parse(stdout)).toMatchObject({ model: 'tiny', text: GREETING, done_reason: 'stop', eval_count: 8 });
  });

  test('chat uses the default model, and says so when there is none', async () => {
    const without = await call(['chat'], 'hello\n');
    expect(without).toMatchObject({ code: 1, stderr: expect.stringContaining('no default set') as string });
    await database.pool.query(`select hartonomous.set_default_model('tiny')`);
    expect((await call(['chat', '--temperature', '0'], 'hello\n')).stdout).toBe(`${GREETING}\n\n`);
    await database.pool.query(`select hartonomous.set_default_model(null)`);
  });
});
