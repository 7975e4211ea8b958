/** Libraries that people load into LANGUAGE plv8 with a start procedure, as bundles for browsers: each gives what it gives in Node.js. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import { createDatabase } from './harness.ts';
import type { TestDatabase } from './harness.ts';

/** By package, an expression over it as `lib`; its value is JSON. */
const LIBRARIES: Record<string, string> = {
  lodash: `[lib.chunk([1, 2, 3, 4, 5], 2), lib.camelCase('some snake_case text'), lib.groupBy([6.1, 4.2, 6.3], Math.floor)]`,
  moment: `lib.utc('2026-11-28T10:20:30Z').add(1, 'month').format('dddd, MMMM Do YYYY, h:mm:ss a')`,
  mustache: `lib.render('{{#items}}{{name}}: {{price}}; {{/items}}', { items: [{ name: 'a', price: 1 }, { name: '<b>', price: 2 }] })`,
  handlebars: `lib.compile('{{#each people}}{{@index}} {{name}}{{#unless @last}}, {{/unless}}{{/each}}')({ people: [{ name: 'Ann' }, { name: '<Ben>' }] })`,
  underscore: `[lib.countBy([1, 2, 3, 4], (n) => (n % 2 ? 'odd' : 'even')), lib.template('hello <%= name %>')({ name: 'world' })]`,
  dayjs: `lib('2026-02-27T00:00:00').add(3, 'day').format('YYYY-MM-DD')`,
  marked: `lib.parse('# Title\\n\\n* one\\n* **two**\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |')`,
  'js-yaml': `[lib.load('a: 1\\nb: [x, {y: 2}]\\n'), lib.dump({ list: [1, 'two', { three: 3 }] })]`,
  papaparse: `lib.parse('a,b\\n1,"x, y"\\n2,z', { header: true }).data`,
  validator: `[lib.isEmail('a@example.org'), lib.isURL('not a url'), lib.isUUID('c9bf9e57-1685-4c89-bafb-ff5af830be8a'), lib.escape('<x>')]`,
  ejs: `lib.render('<% for (const x of list) { %><li><%= x %></li><% } %>', { list: ['a', '<b>'] })`,
  'jsonpath-plus': `lib.JSONPath({ path: '$.store.book[?(@.price < 10)].title', json: { store: { book: [{ title: 'A', price: 8 }, { title: 'B', price: 12 }] } } })`,
  nunjucks: `lib.renderString('{% for x in list %}{{ loop.index }}:{{ x | upper }} {% endfor %}', { list: ['a', '<b>'] })`,
  'bignumber.js': `new lib('0.1').plus('0.2').times('1e30').toFixed()`,
  chance: `(() => { const c = new lib(12345); return [c.integer({ min: 1, max: 1000 }), c.word({ length: 6 }), c.name()]; })()`,
  ajv: `(() => {
    const validate = new lib({ allErrors: true }).compile({ type: 'object', required: ['a'], properties: { a: { type: 'integer' } } });
    return [validate({ a: 1 }), validate({ a: 'x' }), validate.errors.map(({ message }) => message)];
  })()`,
};

/** A function for plv8.start_proc that leaves a package in globalThis.lib. */
async function startProcedure(name: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: {
      contents: `import * as all from '${name}'; globalThis.lib = 'default' in all ? all.default : all;`,
      resolveDir: packageRoot(),
    },
    bundle: true,
    format: 'iife',
    platform: 'browser',
    target: 'node18',
    charset: 'ascii',
    write: false,
  });
  return `create or replace function public.start_library() returns void language plv8 as $library$ ${outputFiles[0]!.text} $library$`;
}

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(async () => {
  await database.drop();
});

test.each(Object.entries(LIBRARIES))('%s', async (name, expression) => {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    // In another session: this one's isolate has to be made after the setting.
    await database.pool.query(await startProcedure(name));
    await database.pool.query(
      `create or replace function public.use_library() returns text language plv8 as $use$ return JSON.stringify(${expression}) $use$`,
    );
    await client.query(`set plv8.start_proc = 'public.start_library'`);
    const { rows } = await client.query<{ value: string }>('select public.use_library() as value');
    const module = (await import(name)) as { default?: unknown };
    const lib = module.default ?? module;
    const manifest = readFileSync(join(packageRoot(), 'node_modules', name, 'package.json'), 'utf8');
    const { version } = JSON.parse(manifest) as { version: string };
    const there = new Function('lib', `return (${expression})`)(lib) as unknown;
    console.log(`${name} ${version}`);
    expect(rows[0]!.value).toBe(JSON.stringify(there));
  } finally {
    await client.end();
  }
});
