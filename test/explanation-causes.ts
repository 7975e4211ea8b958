/**
 * Whether summaries name what decides: for 60 tokens of 12 prompts, the place of the named words, head and feed-forward network
 * among all of the prompt's words, all heads and all networks, each left out alone. Explanations come from the database; the
 * places are counted here, from the GGUF file itself, without any code of explain/. Also how often the deletion check holds.
 *
 *   npx vite-node --config vitest.config.ts test/explanation-causes.ts -- DATABASE_URL MODEL FILE.gguf
 * The database has the file as MODEL.
 */
import pg from 'pg';
import { ablation } from '../plv8/src/model/ablation.ts';
import type { KvCache, Step } from '../plv8/src/model/model.ts';
import { Model } from '../plv8/src/model/model.ts';
import { readConfig } from '../plv8/src/model/config.ts';
import { readGguf } from './unit/gguf-source.ts';

const PROMPTS = [
  'What is the capital of France?',
  'Name the largest planet of the solar system.',
  'Which animal barks and guards the house?',
  'Translate "good morning" into Spanish.',
  'My name is Anna. What is my name?',
  'What colour is the sky on a clear day?',
  'Write one sentence about a dog and a red ball.',
  'How many days does a week have?',
  'The shop sells bread, milk and apples. What can I drink there?',
  'Who wrote the play Romeo and Juliet?',
  'Is ice hot or cold?',
  'Tom has a blue car and Lisa has a green bicycle. Who has a bicycle?',
];
const STEPS = 5;
const PLACES = 3;

const [url, name, file] = process.argv.slice(2);
if (file === undefined)
  throw new Error(
    'usage: vite-node --config vitest.config.ts test/explanation-causes.ts -- DATABASE_URL MODEL FILE.gguf',
  );
const client = new pg.Client({ connectionString: url });
await client.connect();
const poll = (): void => undefined;
const source = readGguf(file);
const config = readConfig(source.architecture, source.hyperparameters, source.source.tensors());
const model = Model.load(config, source.source, { precision: 'auto', poll });

interface Explained {
  token_id: number;
  summary: string;
  top_head: { layer: number; head: number; cost: number };
  top_ffn: { layer: number; cost: number };
  top_input: { input: string; influence: number } | null;
  checks: { deletion: { probability_lost: number; probability_lost_at_random: number } | null };
}

async function rows<T>(sql: string, values: unknown[]): Promise<T[]> {
  return (await client.query(sql, values)).rows as T[];
}

function logprob(logits: Float32Array, id: number): number {
  const most = logits.reduce((a, b) => Math.max(a, b));
  return logits[id]! - most - Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0));
}

/** Log-probability of `id` after `ids` without each part alone at the last position. */
function withoutParts(ids: number[], id: number, parts: { layer: number; head: number }[]): number[] {
  const cache: KvCache = model.newCache(ids.length);
  model.fill(ids, cache, { poll });
  const steps = parts.map(({ layer, head }): Step => ({
    ids: ids.slice(-1),
    cache,
    start: ids.length - 1,
    intervention: ablation(model, {
      heads: head < 0 ? [] : [{ layer, head }],
      ffns: head < 0 ? [{ layer }] : [],
      neurons: [],
      by: 'zero',
      from: ids.length - 1,
    }),
  }));
  const found: number[] = [];
  model.forwardEach(steps, { poll }, (step, _index, logits) => (found[step] = logprob(logits, id)));
  cache.free();
  return found;
}

const after = (ids: number[], id: number): number => {
  const cache = model.newCache(ids.length);
  const found = logprob(model.forward(ids, cache, { poll }), id);
  cache.free();
  return found;
};

/** Place of the one at `index` among log-probabilities, from 1 for the one that lost most. */
const placeOf = (left: number[], index: number): number => left.filter((each) => each < left[index]!).length + 1;

const layers = Array.from({ length: config.nLayers }, (_, layer) => layer);
const heads = layers.flatMap((layer) => Array.from({ length: config.nHeads }, (_, head) => ({ layer, head })));
const networks = layers.map((layer) => ({ layer, head: -1 }));
const places = { words: [] as number[], head: [] as number[], ffn: [] as number[] };
const check = { holds: 0, of: 0 };
let milliseconds = 0;
for (const prompt of PROMPTS) {
  await rows('select hartonomous.complete($1, $2, $3)', [
    prompt,
    name,
    JSON.stringify({ temperature: 0, repeat_penalty: 1, num_predict: STEPS, record: true }),
  ]);
  const [run] = await rows<{ id: number; prompt_ids: number[]; output_ids: number[] }>(
    'select id::int as id, prompt_ids, output_ids from hartonomous.run_list order by id desc limit 1',
    [],
  );
  for (let step = 0; step < run!.output_ids.length; step++) {
    const started = Date.now();
    const [{ e }] = await rows<{ e: Explained }>('select hartonomous.explain($1, $2) as e', [run!.id, step]);
    milliseconds += Date.now() - started;
    const spans = await rows<{ first_position: number; last_position: number; leave_one_out: number }>(
      'select * from hartonomous.explain_inputs($1, $2) where leave_one_out is not null order by leave_one_out desc',
      [run!.id, step],
    );
    const words = await rows<{ first_position: number; last_position: number }>(
      `select * from hartonomous.explain_inputs($1, $2, inputs => 'words') where leave_one_out is not null and unit = 'word'`,
      [run!.id, step],
    );
    const ids = [...run!.prompt_ids, ...run!.output_ids.slice(0, step)];
    const withoutWords = words.map(({ first_position: from, last_position: to }) =>
      after(
        ids.filter((_, p) => p < from || p > to),
        e.token_id,
      ),
    );
    const named = words
      .map((_, i) => i)
      .filter(
        (i) =>
          words[i]!.first_position >= spans[0]!.first_position && words[i]!.last_position <= spans[0]!.last_position,
      );
    places.words.push(Math.min(...named.map((i) => placeOf(withoutWords, i))));
    const isNamed = ({ layer, head }: { layer: number; head: number }) =>
      layer === e.top_head.layer && head === e.top_head.head;
    places.head.push(placeOf(withoutParts(ids, e.token_id, heads), heads.findIndex(isNamed)));
    places.ffn.push(placeOf(withoutParts(ids, e.token_id, networks), e.top_ffn.layer));
    const { deletion } = e.checks;
    if (deletion !== null) {
      check.of++;
      if (deletion.probability_lost > deletion.probability_lost_at_random) check.holds++;
    }
  }
  console.log(
    `${prompt}  words ${places.words.slice(-STEPS).join(' ')}, head ${places.head.slice(-STEPS).join(' ')}, FFN ${places.ffn.slice(-STEPS).join(' ')}`,
  );
}
for (const [what, found] of Object.entries(places)) {
  const among = found.filter((place) => place <= PLACES).length;
  console.log(
    `${what}: ${among} of ${found.length} among the top ${PLACES} (${((100 * among) / found.length).toFixed(0)} %), ${found.filter((place) => place === 1).length} the first`,
  );
}
console.log(
  `deletion check: holds for ${check.holds} of ${check.of}; ${(milliseconds / places.ffn.length).toFixed(0)} ms an explanation with inputs`,
);
await client.end();
