/**
 * Build dist/hartonomous.sql: kernels (AssemblyScript -> WebAssembly), bundle (esbuild), SQL wrappers, in one file that
 * `hartonomous install` runs in one transaction. The same sources give the same bytes; the build id is a content hash.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { wasmPlugin } from './wasm-plugin.ts';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** Newest syntax that V8 10.2 (Node 18) knows; upstream PL/V8 3.1+ is not older. */
const TARGET = 'node18';
/** Columns after which the bundle's lines break: PL/V8 puts the line that throws into the context of every error. */
const LINE_LIMIT = 100;
const BUNDLE_TAG = '$hartonomous_bundle$';

/** The bundle as one expression that evaluates to the module's exports. */
async function bundleEntry(): Promise<string> {
  const result = await build({
    entryPoints: [join(ROOT, 'plv8/src/entry.ts')],
    bundle: true,
    format: 'iife',
    globalName: 'hartonomousBundle',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    target: TARGET,
    charset: 'ascii',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    lineLimit: LINE_LIMIT,
    write: false,
    absWorkingDir: ROOT,
    plugins: [wasmPlugin()],
  });
  const code = result.outputFiles[0]?.text;
  if (code === undefined) throw new Error('esbuild wrote no output for plv8/src/entry.ts');
  if (code.includes(BUNDLE_TAG)) throw new Error(`the bundle contains its own quote ${BUNDLE_TAG}`);
  return code;
}

/**
 * Replace `{{entry.f(args)}}` in functions/*.sql by a body that makes sure this build is the one in the isolate and then
 * calls it. With `engine` for `entry` its first line says that our host may have the engine answer without running it
 * (host/src/front/call.cc). The id stands in every wrapper, so an upgrade in a live session is noticed at the next call. What is thrown is
 * thrown here once more, since the line that did it last is an error's context.
 */
function expandWrappers(sql: string, id: string): string {
  return sql
    .replace(/\{\{(entry|engine)\.([^}]+)\}\}/g, (_match, by: string, call: string) => {
      const method = call.slice(0, call.indexOf('('));
      const args = call.slice(call.indexOf('(') + 1, call.lastIndexOf(')'));
      return [
        `${by === 'engine' ? `/* hartonomous_v8 engine: ${method} ${id} */ ` : ''}let h = globalThis.hartonomous;`,
        `if (h === undefined || h.id !== '${id}') {`,
        `  plv8.execute('select hartonomous._load_bundle()');`,
        `  h = globalThis.hartonomous;`,
        `}`,
        `try { return h.${method}(${args}); } catch (error) { throw error; }`,
      ].join('\n');
    })
    .replaceAll('{{build_id}}', id);
}

/** What begins the definition of a function in JavaScript: it runs in the owner's isolate. */
const OWNERS_FUNCTION = /^language plv8 .* security definer set search_path = hartonomous, pg_temp$/;

/**
 * A caller may set plv8.start_proc, whose function would run in the owner's isolate: every function written in JavaScript
 * pins it, to a function of ours, since PL/V8 warns of an empty one. That is the one such setting that every PL/V8 has; for
 * the others see cli/install/bundle.ts.
 */
function pinSettings(sql: string): string {
  return sql.replace(/^language plv8 .*$/gm, (line) => {
    if (!OWNERS_FUNCTION.test(line)) throw new Error(`not a function of the owner's: ${line}`);
    return `${line} set plv8.start_proc = 'hartonomous._0_start'`;
  });
}

/**
 * The start procedure of the owner's isolate. An ordinary owner may not create functions that pin plv8.start_proc before the
 * library of the language is loaded, which the first function made in JavaScript does: this one here, and in a dump too, where
 * functions stand in the order of their names.
 */
const START = `create or replace function hartonomous._0_start() returns void
language plv8 immutable parallel unsafe
as '';
comment on function hartonomous._0_start() is
    'does nothing: what runs when an isolate is made for the owner; as the first function of a dump it loads the library of LANGUAGE plv8';
revoke all on function hartonomous._0_start() from public;
`;

/** All SQL files of a folder in the order of their names. */
async function sqlOf(folder: string): Promise<string> {
  const names = (await readdir(join(ROOT, folder))).filter((name) => name.endsWith('.sql')).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(ROOT, folder, name), 'utf8')));
  return texts.join('\n');
}

async function main(): Promise<void> {
  const code = await bundleEntry();
  const functions = await sqlOf('plv8/functions');
  const dataModel = await sqlOf('plv8/sql');
  const hash = createHash('sha256');
  for (const part of [START, code, pinSettings(functions), dataModel]) hash.update(part).update('\0');
  const id = hash.digest('hex').slice(0, 16);

  const loader = `create or replace function hartonomous._load_bundle() returns text
language plv8 volatile parallel unsafe cost 100000 security definer set search_path = hartonomous, pg_temp
as ${BUNDLE_TAG}
${code}
hartonomousBundle.refuseContext();
// In one assignment: a cancel leaves the bundle that was there, or none, never a part.
const counted = Object.entries(hartonomousBundle).map(([name, call]) => [name, hartonomousBundle.counted(call)]);
globalThis.hartonomous = Object.fromEntries([['id', '${id}'], ...counted]);
return '${id}';
${BUNDLE_TAG};
comment on function hartonomous._load_bundle() is 'load the bundle of this build into the isolate';
revoke all on function hartonomous._load_bundle() from public;
`;
  const sql = [
    `-- hartonomous build ${id}; generated by plv8/build.ts, run by \`hartonomous install\` in one transaction`,
    dataModel,
    START,
    pinSettings(loader),
    expandWrappers(pinSettings(functions), id),
  ].join('\n');
  const out = join(ROOT, 'dist/hartonomous.sql');
  await mkdir(dirname(out), { recursive: true });
  await writeFile(`${out}.part`, sql);
  await rename(`${out}.part`, out);
  console.log(`dist/hartonomous.sql: build ${id}, ${(sql.length / 1024).toFixed(0)} kB`);
}

await main();
