// Cancel, time out and terminate running programs on the cluster of PGHOST and PGPORT, over connections that are open
// already. Prints for each the milliseconds from the request to the error at the client, the median and worst of a few,
// and fails where one took longer than four times the 100 ms it is meant to keep.
import pg from 'pg';

const BOUND_MS = 400;
const REPEATS = 3;
const database = 'hartonomous_v8_latency';

const programs = {
  'while (true)': 'while (true) {}',
  'WebAssembly loop': `
    const bytes = new Uint8Array([0,97,115,109,1,0,0,0,1,4,1,96,0,0,3,2,1,0,7,8,1,4,115,112,105,110,0,0,10,9,1,7,0,3,64,12,0,11,11]);
    new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.spin();`,
  'JSON.stringify chain': `
    const rows = Array.from({ length: 1000 }, (_, i) => ({ i, text: 'row ' + i }));
    while (true) JSON.stringify(JSON.parse(JSON.stringify(rows)));`,
  'statements, errors caught': `while (true) { try { plv8.execute('select 1') } catch (e) {} }`,
  recursion: 'const f = (n) => (n === 0 ? 0 : f(n - 1) + 1); while (true) f(1000);',
  'recursion through SQL': `while (true) plv8.execute('select descend(10)');`,
  'loop inside a statement': `try { plv8.execute('do $' + '$ while (true) {} $' + '$ language plv8') } catch (e) { while (true) {} }`,
};

const settings = { host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER ?? 'postgres' };
const admin = new pg.Client({ ...settings, database: 'postgres' });
await admin.connect();
await admin.query(`drop database if exists ${database}`);
await admin.query(`create database ${database}`);

async function connect() {
  const client = new pg.Client({ ...settings, database });
  client.on('error', () => {}); // a terminated connection says so twice
  await client.connect();
  return client;
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Milliseconds from `request` to the end of `body`, run over `client`. */
async function measure(client, body, request) {
  let ended;
  const end = client.query(`do $program$ ${body} $program$ language plv8`).then(
    () => (ended = new Error('the program ended by itself')),
    () => (ended = performance.now()),
  );
  await wait(300);
  const started = (await request()) ?? performance.now();
  const hung = wait(20 * BOUND_MS).then(() => (ended ??= Infinity));
  await Promise.race([end, hung]);
  if (ended instanceof Error) throw ended;
  return ended - started;
}

const setup = await connect();
await setup.query('create extension hartonomous_v8');
await setup.query(`create function descend(n int) returns int language plv8 as
  $f$ return n <= 0 ? 0 : plv8.execute('select descend($1) as r', [n - 1])[0].r + 1 $f$`);
await setup.end();

let failed = 0;
for (const how of ['cancel', 'timeout', 'terminate']) {
  for (const [name, body] of Object.entries(programs)) {
    const taken = [];
    let client = await connect();
    for (let i = 0; i < REPEATS; i++) {
      await client.query('do $$ $$ language plv8'); // V8 has started
      const pid = client.processID;
      if (how === 'timeout') {
        await client.query('set statement_timeout = 400');
        const sent = performance.now();
        taken.push(await measure(client, body, () => sent + 400));
        await client.query('set statement_timeout = 0');
      } else {
        taken.push(
          await measure(client, body, () => {
            const sent = performance.now();
            return admin.query(`select pg_${how}_backend(${pid})`).then(() => sent);
          }),
        );
      }
      if (how === 'terminate') {
        await client.end().catch(() => {});
        client = await connect();
      }
    }
    await client.end();
    taken.sort((a, b) => a - b);
    const worst = taken[taken.length - 1];
    console.log(
      `latency: ${how} of ${name}: median ${taken[taken.length >> 1].toFixed(1)} ms, worst ${worst.toFixed(1)} ms`,
    );
    if (!(worst <= BOUND_MS)) failed++;
  }
}
await admin.query(`drop database ${database} with (force)`);
await admin.end();
process.exit(failed === 0 ? 0 : 1);
