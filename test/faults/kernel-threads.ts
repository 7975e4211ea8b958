/** What the system tells of a server's processes: threads of kernels, cores that calls hold, and what would be left behind. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { threadTime } from '../db/processor-time.ts';

/** What threads of kernels are called (host/src/kernels/pool.cc). */
const THREAD_NAME = 'kernels';
/** Where segments are, and the file whose bytes stand for cores (host/src/kernels/cores.cc). */
const SEGMENT_FOLDER = 'pgsql_tmp_hartonomous_v8';
const CORES_FILE = '.cores';
/** The first byte of it by which a call says that it has no core. */
const FIRST_WAITING = 4096;

/** A file of /proc; nothing where its process has ended. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Threads of kernels that a process has. */
export function kernelThreads(pid: number): number[] {
  return namesIn(`/proc/${pid}/task`)
    .map(Number)
    .filter((thread) => textOf(`/proc/${pid}/task/${thread}/comm`).trim() === THREAD_NAME);
}

/** Milliseconds of the processor that a process's threads of kernels have taken. */
export function kernelTime(pid: number): number {
  return kernelThreads(pid).reduce((sum, thread) => sum + threadTime(pid, thread), 0);
}

/** Cores of a server that calls hold, and calls that say that they have none. */
export function coresOf(dataFolder: string): { held: number; waiting: number } {
  const file = join(dataFolder, SEGMENT_FOLDER, CORES_FILE);
  const cores = { held: 0, waiting: 0 };
  if (!existsSync(file)) return cores;
  const { ino } = statSync(file);
  // As `1: OFDLCK ADVISORY  WRITE -1 fe:00:796654 0 2`: locks of one process on bytes side by side are one.
  const locks = textOf('/proc/locks').matchAll(/OFDLCK +ADVISORY +WRITE +\S+ +\w+:\w+:(\d+) +(\d+) +(\d+)/g);
  for (const [, inode, first, last] of locks) {
    if (Number(inode) !== ino) continue;
    cores[Number(first) < FIRST_WAITING ? 'held' : 'waiting'] += Number(last) - Number(first) + 1;
  }
  return cores;
}

/** Processes of a server: its postmaster, whose number postmaster.pid has, and those that it has started. */
export function processesOf(dataFolder: string): number[] {
  const postmaster = Number(textOf(join(dataFolder, 'postmaster.pid')).split('\n')[0]);
  return postmaster === 0 ? [] : [postmaster, ...childrenOf(postmaster)];
}

export function childrenOf(pid: number): number[] {
  const parent = new RegExp(`^PPid:\\s+${pid}$`, 'm');
  return namesIn('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((child) => parent.test(textOf(`/proc/${child}/status`)));
}

/** Files of POSIX shared memory that processes have mapped. */
export function sharedMemoryOf(pids: readonly number[]): string[] {
  const mapped = pids.flatMap((pid) => [...textOf(`/proc/${pid}/maps`).matchAll(/ (\/dev\/shm\/\S+)/g)]);
  return [...new Set(mapped.map((match) => match[1]!))];
}

/** How many segments of System V's shared memory a process has made that are still there. */
export function systemVSegments(pid: number): number {
  const [head, ...rows] = textOf('/proc/sysvipc/shm').trim().split('\n');
  const column = head!.trim().split(/\s+/).indexOf('cpid');
  return rows.filter((row) => Number(row.trim().split(/\s+/)[column]) === pid).length;
}

/** Temporary files of a server, of ours and of PostgreSQL's. */
export function temporaryFilesOf(dataFolder: string): string[] {
  const folders = namesIn(dataFolder).filter((name) => name.startsWith('pgsql_tmp'));
  return [...folders, 'base/pgsql_tmp']
    .flatMap((folder) => namesIn(join(dataFolder, folder)).map((name) => `${folder}/${name}`))
    .sort();
}
