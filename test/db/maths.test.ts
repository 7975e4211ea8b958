import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestDatabase } from './harness.ts';
import { createDatabase, lacksOwn } from './harness.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});

afterAll(async () => {
  await database.drop();
});

async function rows<T>(sql: string): Promise<T[]> {
  return (await database.pool.query(sql)).rows as T[];
}

describe('mathematics in SQL', () => {
  it('walks the Hilbert curve one step in one coordinate at a time, and back to every index', async () => {
    const walk = await rows<{ i: number; p: number[]; back: string }>(
      `select i, p, hartonomous.hilbert_encode(p, 2) as back
       from (select i, hartonomous.hilbert_decode(i, 3, 2) as p from generate_series(0, 63) as i) as points order by i`,
    );
    expect(walk.map(({ back }) => Number(back))).toEqual(Array.from({ length: 64 }, (_, i) => i));
    for (let i = 1; i < 64; i++) {
      const steps = walk[i].p.map((x, d) => Math.abs(x - walk[i - 1].p[d]));
      expect([...steps].sort()).toEqual([0, 0, 1]);
    }
  });

  it('keeps all 63 bits of an index', async () => {
    const found = await rows<{ back: string }>(
      `select hartonomous.hilbert_encode(hartonomous.hilbert_decode(9223372036854775807, 3, 21), 21) as back`,
    );
    expect(found).toEqual([{ back: '9223372036854775807' }]);
  });

  it('multiplies vectors', async () => {
    const found = await rows<{ dot: number; same: number; right: number; zero: number; nothing: null }>(
      `select hartonomous.dot_product('{1,2,3}', '{4,-5,6}') as dot,
              hartonomous.cosine_similarity('{1,2}', '{2,4}') as same,
              hartonomous.cosine_similarity('{1,0}', '{0,3}') as right,
              hartonomous.cosine_similarity('{0,0}', '{0,3}') as zero,
              hartonomous.dot_product(null, '{1}') as nothing`,
    );
    expect(found[0].dot).toBe(12);
    expect(found[0].same).toBeCloseTo(1, 12);
    expect(found[0].right).toBe(0);
    expect(found[0].zero).toBeNaN();
    expect(found[0].nothing).toBeNull();
  });

  it.each([
    [`hartonomous.dot_product('{1,2,3}', '{1,2,3,4}')`, 'different vector dimensions 3 and 4'],
    [`hartonomous.cosine_similarity('{1,null}', '{1,2}')`, 'vector element 2 is null'],
    [`hartonomous.hilbert_encode('{0,16}', 4)`, 'hilbert coordinate 2 is 16, 4 bits hold 0 to 15'],
    [`hartonomous.hilbert_encode('{}', 4)`, 'hilbert dims must be at least 1, got 0'],
    [`hartonomous.hilbert_encode('{0}', 0)`, 'hilbert bits must be between 1 and 31, got 0'],
    [`hartonomous.hilbert_decode(0, 8, 8)`, 'hilbert index of 8 dims x 8 bits has 64 bits, at most 63 fit'],
    [`hartonomous.hilbert_decode(-1, 2, 4)`, 'hilbert index -1 is outside 0 to 255'],
  ])('refuses %s', async (call, message) => {
    await expect(rows(`select ${call}`)).rejects.toMatchObject({ code: '22023', message });
  });

  it.skipIf(lacksOwn('functions in parallel plans'))('runs in parallel workers', async () => {
    const client = await database.pool.connect();
    try {
      await client.query('begin');
      // PostgreSQL 16 gave it its second name.
      const forced = `select set_config(name, 'on', true) from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query')`;
      expect((await client.query(forced)).rowCount).toBe(1);
      const plan = `select sum(hartonomous.dot_product(array[i]::real[], '{2}')) as sum from generate_series(1, 100) as i`;
      expect((await client.query(plan)).rows).toEqual([{ sum: 10100 }]);
      expect(JSON.stringify((await client.query(`explain ${plan}`)).rows)).toContain('Gather');
    } finally {
      await client.query('rollback');
      client.release();
    }
  });
});
