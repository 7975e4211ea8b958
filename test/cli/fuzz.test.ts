/**
 * Damaged models: each ends in success or in one line, soon, without a partial model. A thousand in process and ten
 * through the program; `npm run fuzz` takes 20,000 and 200. FUZZ_SEED chooses others.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { CommandError } from '../../cli/errors.ts';
import { checkFrames } from '../../cli/ingest/frame.ts';
import { checkVocabulary } from '../../cli/ingest/vocabulary.ts';
import { openModel } from '../../cli/sources/open-model.ts';
import { createDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { FileFolder, llamaBytes } from '../unit/gguf-writer.ts';
import { hartonomous } from './program.ts';

const INPUTS = Number(process.env.FUZZ_INPUTS ?? 1000);
const PROGRAM_INPUTS = Number(process.env.FUZZ_PROGRAM_INPUTS ?? 10);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const HANG_MS = 5000;
const MAX_BYTES = 500 * 2 ** 20;

const folder = new FileFolder();
afterAll(() => folder.remove());

/** Lehmer's generator: the same inputs on every machine. */
let state = (SEED * 7919) % 0x7fffffff || 1;
function random(below: number): number {
  state = (state * 48271) % 0x7fffffff;
  return state % below;
}

const INTERESTING = [0, 1, 2, 0x7f, 0x80, 0xff, 0x20, 0x22, 0x5b, 0x7b, 0x39, 0x2d];

/** Change, cut out, repeat or overwrite a few places, most of them in the first `focus` bytes. */
function mutate(seed: Buffer, focus: number): Buffer {
  let out = Buffer.from(seed);
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const at = random(random(4) === 0 ? Math.max(1, out.length) : Math.max(1, Math.min(focus, out.length)));
    const length = 1 + random(random(3) === 0 ? 200 : 8);
    switch (random(7)) {
      case 0:
        out[at] = random(256);
        break;
      case 1:
        out[at] = INTERESTING[random(INTERESTING.length)]!;
        break;
      case 2:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + length)]);
        break;
      case 3:
        out = Buffer.concat([out.subarray(0, at + length), out.subarray(at)]);
        break;
      case 4:
        out = out.subarray(0, at);
        break;
      case 5:
        out.fill(random(2) * 255, at, Math.min(out.length, at + 8));
        break;
      default:
        if (at + 8 <= out.length) out.writeBigUInt64LE(2n ** BigInt(random(64)), at);
    }
  }
  return out;
}

const TINY = fileURLToPath(new URL('../../models/tiny', import.meta.url));
const GGUF_SEEDS = [
  llamaBytes({ dim: 8, hidden: 8, vocab: 2 }, (i) => i / 1000),
  readFileSync(modelPath('zoo/qwen2-tiny-f32.gguf')).subarray(0, 60_000),
  readFileSync(modelPath('llama-260k/llama-260k-q8_0.gguf')),
];
const FOLDER_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer_config.json',
  'tokenizer.json',
  'model.safetensors',
];
const FOLDER_SEEDS = new Map(FOLDER_FILES.map((name) => [name, readFileSync(join(TINY, name))]));

const folderPath = join(folder.path, 'model');
mkdirSync(folderPath);
for (const [name, bytes] of FOLDER_SEEDS) writeFileSync(join(folderPath, name), bytes);
/** File of the folder that is damaged now. */
let restored = '';

/** Write the next damaged model; where it is. */
function nextInput(i: number): string {
  if (i % 2 === 0) {
    const seed = GGUF_SEEDS[random(GGUF_SEEDS.length)]!;
    return folder.write(mutate(seed, 12_000), 'damaged.gguf');
  }
  const damaged = FOLDER_FILES[random(FOLDER_FILES.length)]!;
  for (const [name, bytes] of FOLDER_SEEDS)
    if (name === damaged || name === restored)
      writeFileSync(join(folderPath, name), name === damaged ? mutate(bytes, 4000) : bytes);
  restored = damaged;
  return folderPath;
}
test(`${INPUTS} damaged models are read or refused in one line`, { timeout: 3_600_000 }, async () => {
  let refused = 0;
  let slowest = 0;
  for (let i = 0; i < INPUTS; i++) {
    const input = nextInput(i);
    const started = performance.now();
    try {
      const source = await openModel(input);
      try {
        checkVocabulary(source);
        checkFrames(source);
      } finally {
        await source.close();
      }
    } catch (error) {
      refused++;
      if (!(error instanceof CommandError)) throw new Error(`input ${i} of seed ${SEED}`, { cause: error });
      expect(error.message, `input ${i}`).not.toMatch(/[\n\r\0]/);
      expect(error.message.length).toBeLessThan(1000);
    }
    slowest = Math.max(slowest, performance.now() - started);
    expect(slowest).toBeLessThan(HANG_MS);
    expect(process.memoryUsage().rss, `input ${i}`).toBeLessThan(2 * MAX_BYTES); // vitest itself is in it
  }
  console.log(`${INPUTS} inputs, ${refused} refused, slowest ${Math.round(slowest)} ms`);
  expect(refused).toBeGreaterThan(INPUTS / 10);
  expect(refused).toBeLessThan(INPUTS);
});

test(
  `${PROGRAM_INPUTS} damaged models through the program leave no partial model`,
  { timeout: 3_600_000 },
  async () => {
    const database = await createDatabase();
    try {
      for (let i = 0; i < PROGRAM_INPUTS; i++) {
        const input = nextInput(i);
        let peak = 0;
        const started = performance.now();
        const result = await hartonomous(['ingest', input, '--name', `m${i}`], {
          url: database.url,
          onStart: (child) => {
            const timer = setInterval(() => {
              try {
                const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
                peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024);
              } catch {
                // It has ended.
              }
            }, 20);
            child.once('close', () => clearInterval(timer));
          },
        });
        expect([0, 1], `input ${i}: ${result.stderr}`).toContain(result.code);
        if (result.code === 1) {
          const lines = result.stderr.split('\n').filter((line) => /error|^hartonomous:/i.test(line));
          expect(lines.length, result.stderr).toBeLessThanOrEqual(1);
          expect(result.stderr).not.toMatch(/\n\s+at /);
        }
        expect(peak).toBeLessThan(MAX_BYTES);
        expect(performance.now() - started, `input ${i}`).toBeLessThan(12 * HANG_MS);
        const { rows } = await database.pool.query(
          `select name, state from hartonomous.models where name = $1 and ($2 or state <> 'ready')`,
          [`m${i}`, result.code === 1],
        );
        expect(rows, result.stderr).toEqual([]);
      }
      expect((await database.pool.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
    } finally {
      await database.drop();
    }
  },
);
