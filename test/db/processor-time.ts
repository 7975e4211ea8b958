/** Time of a backend on a processor, which what other programs take does not change. */
import { readFileSync } from 'node:fs';

/** Of the times in /proc. */
const TICK_MS = 10;

/** Processor time of a process with all its threads, in milliseconds. */
export function processorTime(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}
