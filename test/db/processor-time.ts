/** Time of a backend on a processor, which what other programs take does not change. */
import { readFileSync } from 'node:fs';

/** Of the times in /proc. */
const TICK_MS = 10;

function timeIn(file: string): number {
  const stat = readFileSync(file, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** Processor time of a process with all its threads, in milliseconds. */
export function processorTime(pid: number): number {
  return timeIn(`/proc/${pid}/stat`);
}

/** The same of one thread alone; that of a backend that PostgreSQL knows has the process's number. */
export function threadTime(pid: number, thread: number = pid): number {
  return timeIn(`/proc/${pid}/task/${thread}/stat`);
}
