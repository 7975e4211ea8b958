/**
 * The container image from an ingest to an answer, where a Docker engine answers; elsewhere the same statements against
 * the private cluster. The first line says which ran.
 */
import { join } from 'node:path';
import pg from 'pg';
import { GenericContainer, Wait, getContainerRuntimeClient } from 'testcontainers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import { hartonomous } from '../cli/program.ts';
import { createDatabase } from '../db/harness.ts';

const MODEL = join(packageRoot(), 'test/golden/models/zoo/qwen2-tiny-f32.gguf');
/** Building the image compiles the extension and fetches two base images. */
const BUILD_TIMEOUT_MS = 20 * 60_000;

interface Server {
  url: string;
  ingest(): Promise<{ code: number | null; output: string }>;
  stop(): Promise<void>;
}

async function dockerAnswers(): Promise<boolean> {
  try {
    await getContainerRuntimeClient();
    return true;
  } catch {
    return false;
  }
}

async function startContainer(): Promise<Server> {
  const image = await GenericContainer.fromDockerfile(packageRoot(), 'Dockerfile.postgres').build(
    'hartonomous-postgres-test',
    { deleteOnExit: false },
  );
  const container = await image
    .withEnvironment({ POSTGRES_PASSWORD: 'test' })
    .withCopyFilesToContainer([{ source: MODEL, target: '/models/model.gguf' }])
    .withExposedPorts(5432)
    // Once for the server of the entry point's scripts, once for the real one.
    .withWaitStrategy(Wait.forLogMessage('database system is ready to accept connections', 2))
    .start();
  return {
    url: `postgres://postgres:test@${container.getHost()}:${container.getMappedPort(5432)}/postgres`,
    async ingest() {
      const { exitCode, output } = await container.exec(['hartonomous', 'ingest', '/models/model.gguf']);
      return { code: exitCode, output };
    },
    async stop() {
      await container.stop();
    },
  };
}

async function useCluster(): Promise<Server> {
  const database = await createDatabase();
  return {
    url: database.url,
    async ingest() {
      const { code, stdout, stderr } = await hartonomous(['ingest', MODEL], { url: database.url });
      return { code, output: stdout + stderr };
    },
    stop: () => database.drop(),
  };
}

let server: Server;

beforeAll(async () => {
  const docker = await dockerAnswers();
  console.log(docker ? 'running the container image' : 'no Docker engine answers: running against the private cluster');
  server = docker ? await startContainer() : await useCluster();
}, BUILD_TIMEOUT_MS);

afterAll(async () => {
  await server.stop();
});

test('answers from SQL after one ingest, with nothing else to set up', async () => {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  try {
    expect((await client.query('select name from hartonomous.model_list')).rows).toEqual([]);
    const ingest = await server.ingest();
    expect(ingest).toMatchObject({ code: 0 });
    const { rows } = await client.query<{ answer: { text: string; eval_count: number } }>(
      `select hartonomous.complete('Hello', options => '{"num_predict": 8, "temperature": 0, "raw": true}') as answer`,
    );
    expect(rows[0]?.answer.eval_count).toBeGreaterThan(0);
    expect((await client.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
  } finally {
    await client.end();
  }
});
