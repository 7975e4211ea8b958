/** The bundled model: the answers it was trained for on wordings it has not seen, and llama.cpp's answers. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { readChatGolden, testChatGolden } from './chat-golden.ts';

const FOLDER = join(packageRoot(), 'models/tiny');
const FILE = join(FOLDER, 'hartonomous-tiny-q8_0.gguf');
const MAX_FILE_BYTES = 4_000_000;
/** Right answers wanted of the 50 held-out wordings. */
const ENOUGH = 45;
/** A held-out wording this close to a line of the corpus would have been seen. */
const NEAR = 3;
const GREEDY = JSON.stringify({ temperature: 0, num_predict: 64 });

interface HeldOut {
  prompt: string;
  answers: string[];
}

const heldOut = JSON.parse(readFileSync(join(FOLDER, 'held-out.json'), 'utf8')) as HeldOut[];

/** Whether two texts are at most `limit` insertions, deletions and replacements apart. */
function within(a: string, b: string, limit: number): boolean {
  if (Math.abs(a.length - b.length) > limit) return false;
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a.charCodeAt(i - 1) === b.charCodeAt(j - 1) ? 0 : 1;
      const cost = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + same);
      row.push(cost);
      least = Math.min(least, cost);
    }
    if (least > limit) return false;
    previous = row;
  }
  return previous[b.length]! <= limit;
}

test.each([
  ['tables', 'tables', 0, true],
  ['tables', 'cables', 1, true],
  ['tables', 'table', 1, true],
  ['tables', 'a tables', 1, false],
  ['kitten', 'sitting', 3, true],
  ['kitten', 'sitting', 2, false],
])('the distance of %s and %s against %i', (a, b, limit, expected) => {
  expect(within(a, b, limit)).toBe(expected);
});

test('no held-out wording, or one close to it, is in the expanded corpus', () => {
  const expanded = execFileSync('python3', [join(FOLDER, 'corpus/expand.py')], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const lines = new Set<string>();
  for (const line of expanded.trimEnd().split('\n')) {
    const { turns } = JSON.parse(line) as { turns?: [string, string][] };
    for (const [user] of turns ?? []) lines.add(user.toLowerCase());
  }
  expect(lines.size).toBeGreaterThan(30_000);
  for (const { prompt } of heldOut) {
    const near = [...lines].filter((line) => within(prompt.toLowerCase(), line, NEAR));
    expect(near, prompt).toEqual([]);
  }
});

describe('the bundled model', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
    await ingestFile(database.url, FILE);
  });
  afterAll(() => database.drop());

  const generate = async (prompt: string): Promise<string> => {
    const { rows } = await database.pool.query<{ text: string }>(
      'select hartonomous.generate($1, options => $2) as text',
      [prompt, GREEDY],
    );
    return rows[0]!.text;
  };

  test('is small enough to come along', () => {
    expect(readFileSync(FILE).length).toBeLessThan(MAX_FILE_BYTES);
  });

  test('answers the greeting of the README', async () => {
    const greeting = 'Hello, how are you?';
    const wanted = "I'm doing well, thank you for asking!";
    expect(await generate(greeting)).toBe(wanted);
    const { rows } = await database.pool.query<{ answer: { message: { content: string } } }>(
      'select hartonomous.chat($1, options => $2) as answer',
      [JSON.stringify([{ role: 'user', content: greeting }]), GREEDY],
    );
    expect(rows[0]!.answer.message.content).toBe(wanted);
  });

  test(`gives the right answer to ${ENOUGH} of the 50 held-out wordings`, async () => {
    expect(heldOut).toHaveLength(50);
    expect(new Set(heldOut.map(({ prompt }) => prompt)).size).toBe(50);
    const wrong: string[] = [];
    for (const { prompt, answers } of heldOut) {
      const text = await generate(prompt);
      if (!answers.includes(text)) wrong.push(`${prompt} -> ${text}`);
    }
    console.log(`held-out wordings: ${heldOut.length - wrong.length} of ${heldOut.length} right`);
    expect(heldOut.length - wrong.length, wrong.join('\n')).toBeGreaterThanOrEqual(ENOUGH);
  });
});

describe('against llama.cpp on the weights dequantised to F32', () => {
  const golden = readChatGolden('tiny-model.json');
  test('the golden was made from this file', () => {
    expect(createHash('sha256').update(readFileSync(FILE)).digest('hex')).toBe(golden.sha256);
  });
  testChatGolden(golden, () => FILE);
});
