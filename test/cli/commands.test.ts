import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { modelPath } from '../golden/model-files.ts';
import { join } from 'node:path';
import { packageRoot } from '../../cli/package-root.ts';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, EXTENSION, OWN_LANGUAGE, roleName } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { hartonomous } from './program.ts';
import type { ProgramResult } from './program.ts';

const MODEL_FILE = modelPath('llama-260k/llama-260k-q8_0.gguf');
const PROMPT = 'Once upon a time';
/** Twelve greedy tokens. */
const SHORT = ['--temperature', '0', '--num-predict', '12'];

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  const { code, stderr } = await hartonomous(['ingest', MODEL_FILE, '--name', 'stories'], { url: database.url });
  expect({ code, stderr }).toMatchObject({ code: 0 });
});

afterAll(() => database.drop());

const call = (args: string[], stdin?: string) =>
  hartonomous(args, { url: database.url, ...(stdin === undefined ? {} : { stdin }) });

describe('what the database holds', () => {
  test('list names the models', async () => {
    const { code, stdout } = await call(['list']);
    expect(code).toBe(0);
    expect(stdout).toContain('stories');
    const json = await call(['list', '--format', 'json']);
    expect(JSON.parse(json.stdout)).toMatchObject([{ name: 'stories', architecture: 'llama' }]);
  });

  test('status counts atoms, relations, compositions, tokens, embeddings and weights', async () => {
    const { code, stdout } = await call(['status']);
    expect(code).toBe(0);
    for (const word of ['atoms', 'relations', 'compositions', 'tokens', 'embeddings', 'weights']) {
      expect(stdout.toLowerCase()).toContain(word);
    }
    expect(stdout).toContain('512');
    expect(stdout).toContain('100');
    const values = stdout.split('\n').flatMap((line) => /^ {2}[A-Z][a-z ]*: +/.exec(line)?.[0].length ?? []);
    expect(new Set(values).size, 'all begin in one column').toBe(1);
  });

  test('show tells about one model', async () => {
    const { code, stdout } = await call(['show', 'stories']);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^ {2}Model\n {4}architecture +llama\n {4}parameters +\d+\.\d\dK\n {4}context length +512\n/,
    );
    expect(stdout).toMatch(/quantization +Q8_0\n/);
    expect((await call(['show', 'stories', '--template'])).stdout).toBe('no template is known of stories\n');
    expect((await call(['show', 'nobody'])).stderr).toContain('model nobody does not exist');
  });

  test('NAME:latest is NAME, for show, run and chat too', async () => {
    expect((await call(['show', 'stories:latest'])).stdout).toBe((await call(['show', 'stories'])).stdout);
    expect((await call(['run', 'stories:latest', PROMPT, ...SHORT])).stdout).toBe(
      (await call(['run', 'stories', PROMPT, ...SHORT])).stdout,
    );
    expect((await call(['chat', 'stories:latest', ...SHORT], PROMPT)).code).toBe(0);
  });

  test('ps lists the backends that hold a model and stop has them free it', async () => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      await client.query(`select hartonomous.generate('Once', 'stories', '{"num_predict": 1}')`);
      const { processID } = client as pg.Client & { processID: number };
      const table = (await call(['ps'])).stdout;
      expect(table).toMatch(/^NAME +ID +SIZE +PROCESSOR +CONTEXT +UNTIL/);
      expect(table).toMatch(new RegExp(`stories .* 100% CPU +512 .* ${processID} `));
      expect(JSON.parse((await call(['ps', '--format', 'json'])).stdout)).toMatchObject([{ pid: processID }]);
      expect((await call(['stop', 'stories'])).stdout).toBe('1 backend frees stories at the next call\n');
      await client.query('select * from hartonomous.loaded_models');
      expect((await call(['stop', 'stories'])).stdout).toBe('no backend holds stories\n');
    } finally {
      await client.end();
    }
  });

  test('cp gives a model a second name', async () => {
    expect((await call(['cp', 'stories', 'tales'])).stdout).toBe('copied stories to tales\n');
    expect((await call(['cp', 'stories', 'tales'])).stderr).toContain('model tales exists');
    expect((await call(['run', 'tales', PROMPT, ...SHORT])).stdout).toBe(
      (await call(['run', 'stories', PROMPT, ...SHORT])).stdout,
    );
    expect((await call(['rm', 'tales'])).code).toBe(0);
  });

  test('default shows and chooses the model that is used where none is named', async () => {
    expect((await call(['default', 'stories'])).stdout).toBe('stories\n');
    expect((await call(['list'])).stdout).toContain('stories (default)');
    expect(JSON.parse((await call(['default', '--clear', '--format', 'json'])).stdout)).toEqual({ default: 'stories' });
    expect((await call(['list'])).stdout).not.toContain('(default)');
    expect((await call(['default', 'nobody'])).code).toBe(1);
  });

  test("a model's license is told at ingest, by show and in model_list", async () => {
    const file = join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf');
    expect((await call(['ingest', file, '--name', 'licensed'])).stdout).toMatch(
      /^ingested licensed: .*, license mit\n/,
    );
    expect((await call(['show', 'licensed'])).stdout).toMatch(/\n {2}License\n {4}mit\n/);
    expect((await call(['show', 'licensed', '--license'])).stdout).toBe('mit\n');
    const { rows } = await database.pool.query('select name, license from hartonomous.model_list order by name');
    expect(rows).toEqual([
      { name: 'licensed', license: 'mit' },
      { name: 'stories', license: null },
    ]);
    expect((await call(['rm', 'licensed'])).code).toBe(0);
  });

  test('tensors of vision are passed over, which ingest says', async () => {
    const { code, stdout } = await call(['ingest', modelPath('zoo/ollama-gemma3-f32.gguf'), '--name', 'seeing']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/\d+ tensors of vision are kept and not computed with: it reads text only/);
    expect((await call(['rm', 'seeing'])).code).toBe(0);
  });

  test('export makes the folder that is not there', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hartonomous-export-'));
    const file = join(folder, 'new', 'stories.gguf');
    const { code, stdout } = await call(['export', 'stories', file]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining(`wrote ${file}: `) as string });
    rmSync(folder, { recursive: true });
  });

  test('a second ingest of the same file stores nothing', async () => {
    const before = await database.pool.query<{ n: string }>('select count(*) as n from hartonomous.atoms');
    const { code, stdout } = await call(['ingest', MODEL_FILE, '--name', 'stories']);
    expect(code).toBe(0);
    expect(stdout).toContain('already there');
    const after = await database.pool.query<{ n: string }>('select count(*) as n from hartonomous.atoms');
    expect(after.rows).toEqual(before.rows);
  });

  test('verify proves the tensors against the file', async () => {
    const { code, stdout } = await call(['verify', 'stories']);
    expect(code).toBe(0);
    expect(stdout).toContain('every SHA-256');
  });
});

describe('run', () => {
  test('answers a prompt as generate does', async () => {
    const options = JSON.stringify({ temperature: 0, num_predict: 12 });
    const { rows } = await database.pool.query<{ answer: string }>(
      'select hartonomous.generate($1, model => $2, options => $3) as answer',
      [PROMPT, 'stories', options],
    );
    const answer = rows[0]?.answer.trim() ?? '';
    expect(answer.length).toBeGreaterThan(10);
    const { code, stdout, stderr } = await call(['run', 'stories', PROMPT, ...SHORT]);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout.trim()).toBe(answer);
  });

  test('takes the prompt from a pipe', async () => {
    const given = await call(['run', 'stories', PROMPT, ...SHORT]);
    const piped = await call(['run', 'stories', ...SHORT], PROMPT);
    expect(piped.code).toBe(0);
    expect(piped.stdout).toBe(given.stdout);
  });

  test('names a model that does not exist', async () => {
    const { code, stderr } = await call(['run', 'nobody', PROMPT]);
    expect(code).toBe(1);
    expect(stderr).toContain('nobody');
  });
});

describe('query', () => {
  test('prints rows for people and for programs', async () => {
    const text = await call(['query', 'select 7 as seven']);
    expect(text.stdout).toMatch(/seven[\s\S]*7/i);
    const json = await call(['query', "select 7 as seven, null as nothing, 'x' as letter", '--format', 'json']);
    expect(JSON.parse(json.stdout)).toEqual([{ seven: 7, nothing: null, letter: 'x' }]);
  });

  test('changes nothing', async () => {
    const { code, stderr } = await call(['query', 'create table public.intruder (x int)']);
    expect(code).toBe(1);
    expect(stderr).toContain('read-only transaction');
    const { rows } = await database.pool.query("select to_regclass('public.intruder') as found");
    expect(rows).toEqual([{ found: null }]);
  });

  test.each([
    'commit; create table public.intruder (x int)',
    'set transaction read write; create table public.intruder (x int)',
  ])('does not let %s leave the read-only transaction', async (sql) => {
    expect((await call(['query', sql])).code).toBe(1);
    const { rows } = await database.pool.query("select to_regclass('public.intruder') as found");
    expect(rows).toEqual([{ found: null }]);
  });

  test('tells an error of SQL in one line', async () => {
    const { code, stdout, stderr } = await call(['query', '--write', 'select 1/0']);
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(stderr.trim()).toMatch(/^.*division by zero.*$/);
  });

  test('Ctrl-C cancels the statement in the server', async () => {
    const { code } = await hartonomous(['query', "select pg_sleep(60), 'of ctrl-c'"], {
      url: database.url,
      onStart: (child) => {
        const interrupt = async (): Promise<void> => {
          const { rows } = await database.pool.query(
            "select 1 from pg_stat_activity where query like '%of ctrl-c%' and state = 'active' and pid <> pg_backend_pid()",
          );
          if (rows.length > 0) child.kill('SIGINT');
          else if (child.exitCode === null) setTimeout(() => void interrupt(), 50);
        };
        void interrupt();
      },
    });
    expect(code).toBe(130);
    await expect
      .poll(
        async () => {
          const { rows } = await database.pool.query(
            "select pid from pg_stat_activity where query like '%of ctrl-c%' and state = 'active' and pid <> pg_backend_pid()",
          );
          return rows;
        },
        { timeout: 5000 },
      )
      .toEqual([]);
  });
});

describe('errors', () => {
  test.each([
    ['run', 'nobody', 'hello'],
    ['chat', 'nobody'],
    ['show', 'nobody'],
    ['verify', 'nobody'],
    ['export', 'nobody', 'nobody.gguf'],
    ['rm', 'nobody'],
    ['stop', 'nobody'],
    ['default', 'nobody'],
    ['cp', 'nobody', 'somebody'],
  ])('%s of a model that is not there says where the names are', async (...args) => {
    const { code, stdout, stderr } = await call(args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /^hartonomous: model nobody does not exist\n(models here: stories|names are in hartonomous\.model_list|see: hartonomous list)\n$/,
    );
  });

  test.each([
    [['pull', 'qwen2.5:0.5b', '--insecure'], 'run: hartonomous ingest NAME'],
    [['create', 'mine', '-f', 'Modelfile'], 'run: hartonomous ingest FILE --name NAME'],
    [['push', 'mine'], 'run: hartonomous export MODEL FILE'],
  ])("Ollama's %j leads to what does it", async (args, hint) => {
    const { code, stderr } = await call(args);
    expect(code).toBe(2);
    expect(stderr).toContain(`there is no command ${args[0]}\n${hint}`);
  });

  test('an address that nobody answers at is told with what was tried', async () => {
    const { code, stderr } = await hartonomous(['list', '--database-url', 'host=127.0.0.1 port=1 dbname=nonsense']);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^hartonomous: could not connect to the database: .*\ntried database nonsense at 127\.0\.0\.1:1; an address is postgres:.*\n$/,
    );
  });

  test.each([[['--run', '99999']], [['--run', '99999', '--step', '0']], [['--run', '99999', '--html', 'x.html']]])(
    'explain %j names a run that is not there',
    async (args) => {
      const { code, stderr } = await call(['explain', ...args]);
      expect(code).toBe(1);
      expect(stderr).toBe('hartonomous: run 99999 does not exist\nruns you may see: hartonomous.run_list\n');
    },
  );

  test('the help of a command lists what every command takes', async () => {
    for (const command of ['run', 'ingest', 'status']) {
      expect((await call([command, '--help'])).stdout).toMatch(/Global Options:[^]*--database-url[^]*--format/);
    }
    expect((await call(['cluster', 'add', '--help'])).stdout).toContain('--database-url');
  });
});

test('a role without rights is told in a line what it may not, and what gives it rights', async () => {
  const role = roleName('outsider');
  await database.createRole(role);
  await database.pool.query(`alter role ${role} login password 'x'`);
  const url = new URL(database.url);
  url.username = role;
  url.password = 'x';
  for (const args of [
    ['run', 'stories', PROMPT],
    ['chat', 'stories'],
    ['list'],
    ['show', 'stories'],
    ['explain', '--run', '1'],
    ['export', 'stories', '/tmp/never.gguf'],
    ['ingest', MODEL_FILE, '--name', 'mine'],
    ['rm', 'stories'],
    ['ps'],
    ['status'],
  ]) {
    const { code, stdout, stderr } = await hartonomous(args, { url: url.toString() });
    expect({ code, stdout, stderr }, args.join(' ')).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(
        /^hartonomous: permission denied for schema hartonomous\nrights come with roles: .*\n$/,
      ) as string,
    });
  }
});

describe('exit codes', () => {
  test.each([
    ['an unknown command', ['dance']],
    ['an unknown option', ['list', '--dance']],
    ['a missing argument', ['query']],
    ['a format that does not exist', ['list', '--format', 'xml']],
  ])('2 for %s', async (_title, args) => {
    const { code, stdout, stderr } = await call(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).not.toBe('');
  });

  test('3 where the schema is newer than the program', async () => {
    const newer = await createDatabase();
    try {
      await newer.pool.query("insert into hartonomous.migrations (id, name, hash) values (9999, 'later', 'x')");
      const { code, stderr } = await hartonomous(['install'], { url: newer.url });
      expect(code).toBe(3);
      expect(stderr).toContain('9999');
    } finally {
      await newer.drop();
    }
  });

  test('3 and the next step where Hartonomous is not installed', async () => {
    const empty = await createDatabase({ empty: true });
    try {
      const { code, stderr } = await hartonomous(['list'], { url: empty.url });
      expect(code).toBe(3);
      expect(stderr).toContain('hartonomous install');
    } finally {
      await empty.drop();
    }
  });

  test('1 and one line where no server listens', async () => {
    const { code, stderr } = await hartonomous(['list'], { url: 'postgres://nobody@127.0.0.1:1/nothing' });
    expect(code).toBe(1);
    expect(stderr).toContain('could not connect');
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test('doctor finds a healthy database healthy', async () => {
    const { code, stdout } = await call(['doctor']);
    expect({ code, stdout }).toMatchObject({ code: 0 });
    if (EXTENSION === 'plv8') {
      expect(stdout).toMatch(/^ok {3}LANGUAGE plv8 +from plv8 \S+ -> beside hartonomous_v8 it lacks .*native kernels/m);
      expect(stdout).toMatch(/^ok {3}hartonomous_v8 +(installed|not installed, and not needed)$/m);
      expect(stdout).toMatch(/^ok {3}kernels +\S+, which is slow: plv8 has no native kernels -> docs\/managed.md$/m);
      expect(stdout).toMatch(/^ok {3}threads +1 a call$/m);
    } else {
      expect(stdout).toMatch(/^ok {3}LANGUAGE plv8 +from hartonomous_v8 \S+$/m);
      expect(stdout).toMatch(/^ok {3}threads +\d+ a call, hartonomous_v8.threads -?\d+( -> .*)?$/m);
    }
  });

  test('doctor tells which kernels compute, and why they are slow', async (context) => {
    if (!OWN_LANGUAGE) context.skip('only our own host has several kinds');
    const line = async (settings: string): Promise<string> => {
      const env = { PGOPTIONS: settings };
      const { code, stdout } = await hartonomous(['doctor'], { url: database.url, env });
      expect({ code, stdout }).toMatchObject({ code: 0 });
      return stdout.split('\n').find((found) => /^ok {3}kernels /.test(found))!;
    };
    expect(await line('')).toMatch(/ native \(\w+\)/);
    expect(await line('-c hartonomous_v8.extras=off')).toMatch(
      / (plain|relaxed), which is slow: hartonomous_v8.extras is off -> alter system reset hartonomous_v8.extras$/,
    );
    expect(await line('-c hartonomous_v8.segment_role=nobody')).toMatch(
      / (plain|relaxed), which is slow: hartonomous_v8.segment_role is not hartonomous_owner -> run as a superuser: hartonomous install$/,
    );
  });

  test('doctor tells of settings, limits, backends, errors and runs, and what to do', async () => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const progress = new pg.Client({ connectionString: database.url, application_name: 'psql loading other 42 %' });
    await progress.connect();
    try {
      await client.query(`select hartonomous.set_limit('max_context', 512)`);
      await client.query(`select hartonomous.complete('Once', 'stories', '{"num_predict": 1, "record": true}')`);
      await expect(client.query(`select hartonomous.generate('Once', 'nobody')`)).rejects.toThrow('does not exist');
      const { code, stdout } = await call(['doctor']);
      expect({ code, stdout }).toMatchObject({ code: 0 });
      for (const line of [
        /^ok {3}power cut +fsync on, full_page_writes on$/m,
        /^ok {3}lost clients +client_connection_check_interval 5s$/m,
        /^ok {3}limits +max_context 512$/m,
        /^ok {3}backends +[1-9]\d* hold a model; psql loading other 42 % \(\d+\) -> hartonomous ps$/m,
        /^ok {3}errors +1 in 1 backends -> select \* from hartonomous.call_errors_everywhere, and the log of the server$/m,
        /^ok {3}recorded runs +\d+; \S+ \w+ p50 \d+ ms, p99 \d+ ms -> select \* from hartonomous.run_latency$/m,
        /^ok {3}log +log_min_messages warning -> set log_min_messages = debug1 /m,
      ])
        expect(stdout).toMatch(line);
    } finally {
      await client.query(`select hartonomous.set_limit('max_context', null)`);
      await client.end();
      await progress.end();
    }
  });
});

test('doctor tells of the labels that a dump from another LANGUAGE plv8 brings, and install puts them right', async () => {
  const own = await createDatabase();
  const others = OWN_LANGUAGE ? 'unsafe' : 'restricted';
  try {
    const call = (command: string[]): Promise<ProgramResult> => hartonomous(command, { url: own.url });
    expect((await call(['ingest', MODEL_FILE])).code).toBe(0);
    await own.pool.query(`do $$
      declare f regprocedure;
      begin
        for f in select oid from pg_proc where pronamespace = 'hartonomous'::regnamespace and prokind = 'f' loop
          execute format('alter function %s parallel ${others}', f);
        end loop;
        update hartonomous.settings set value = to_jsonb(not value::boolean) where name = 'parallel_plans';
      end $$`);
    const before = await call(['doctor']);
    expect(before.code).toBe(1);
    expect(before.stdout.match(/^FAIL.*$/gm)).toEqual([
      'FAIL labels             those of a server with another LANGUAGE plv8 -> run: hartonomous install',
    ]);
    expect((await call(['install'])).code).toBe(0);
    const after = await call(['doctor']);
    expect(after).toMatchObject({ code: 0 });
    expect(after.stdout).toMatch(/^ok {3}definitions +as installed$/m);
  } finally {
    await own.drop();
  }
});

test('rm removes the model and its atoms', async () => {
  const own = await createDatabase();
  try {
    const atoms = async (): Promise<string | undefined> =>
      (await own.pool.query<{ n: string }>('select count(*) as n from hartonomous.atoms')).rows[0]?.n;
    const before = await atoms();
    expect((await hartonomous(['ingest', MODEL_FILE], { url: own.url })).code).toBe(0);
    expect(await atoms()).not.toBe(before);
    expect((await hartonomous(['rm', 'llama-260k-q8_0'], { url: own.url })).code).toBe(0);
    expect(await atoms()).toBe(before);
    expect((await hartonomous(['rm', 'llama-260k-q8_0'], { url: own.url })).code).toBe(1);
  } finally {
    await own.drop();
  }
});
