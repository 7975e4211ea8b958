/** What commands print: tables for people, JSON for programs. Nothing else in cli/ writes to a terminal's streams. */
import Table from 'cli-table3';
import stringWidth from 'string-width';
import { visible, visibleJson } from '../plv8/src/format/visible-text.ts';

export type Format = 'text' | 'json';

/** Write lines of this program to standard output, and nothing in them that a terminal would obey. */
export function print(text: string): void {
  process.stdout.write(visible(text));
}

/** As print, to standard error. */
export function tell(text: string): void {
  process.stderr.write(visible(text));
}

/** Write a text that is itself what was asked for, as an answer or a template: a file or a pipe gets it as it is. */
export function printText(text: string): void {
  process.stdout.write(process.stdout.isTTY ? visible(text) : text);
}

export function printJson(value: unknown): void {
  const json = JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? item.toString() : item), 2);
  process.stdout.write(`${visibleJson(json)}\n`);
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (value instanceof Date) return value.toISOString();
  return visible(typeof value === 'object' ? JSON.stringify(value) : String(value));
}

/** Columns between two columns of a table. */
const GAP = '  ';
/** A shortened cell keeps so many columns at least, however narrow the terminal is. */
const LEAST_SHORTENED = 12;

/** A text in at most `width` columns: where it is wider, an ellipsis takes the place of its middle. */
export function shortenMiddle(text: string, width: number): string {
  if (stringWidth(text) <= width) return text;
  const characters = Array.from(new Intl.Segmenter().segment(text), ({ segment }) => segment);
  const taken = (from: readonly string[], room: number): number => {
    let columns = 0;
    const count = from.findIndex((character) => (columns += stringWidth(character)) > room);
    return count < 0 ? from.length : count;
  };
  const head = taken(characters, Math.ceil((width - 1) / 2));
  const tail = taken([...characters].reverse(), Math.floor((width - 1) / 2));
  return `${characters.slice(0, head).join('')}…${characters.slice(characters.length - tail).join('')}`;
}

/**
 * Rows under their column names, without lines, as ollama and psql's unaligned output do. Where they are wider than
 * `width` (that of the terminal), the texts of column `shortened` lose their middle.
 */
export function printTable(
  columns: string[],
  rows: Record<string, unknown>[],
  { shortened, width = process.stdout.columns }: { shortened?: string; width?: number } = {},
): void {
  const cells = rows.map((row) => columns.map((name) => cell(row[name])));
  const at = shortened === undefined ? -1 : columns.indexOf(shortened);
  if (at >= 0 && width !== undefined) {
    const taken = columns.map((name, c) =>
      Math.max(...[name, ...cells.map((row) => row[c]!)].map((text) => stringWidth(text))),
    );
    const others = taken.reduce((sum, columnWidth, c) => (c === at ? sum : sum + columnWidth + GAP.length), 0);
    for (const row of cells) row[at] = shortenMiddle(row[at]!, Math.max(LEAST_SHORTENED, width - others));
  }
  const bare = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
    left: '',
    'left-mid': '',
    mid: '',
    'mid-mid': '',
    right: '',
    'right-mid': '',
    middle: GAP,
  };
  const table = new Table({
    head: columns.map((name) => visible(name.toUpperCase())),
    chars: bare,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  table.push(...cells);
  print(`${table.toString()}\n`);
}

/** 1234567 -> 1.2 MB, decimal units as ollama prints them. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds as 40 s, 3 min 20 s or 1 h 5 min. */
export function formatTime(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** 494032768 -> 494.03M, as ollama prints parameters. */
export function formatCount(count: number): string {
  for (const [unit, size] of [
    ['T', 1e12],
    ['B', 1e9],
    ['M', 1e6],
    ['K', 1e3],
  ] as const) {
    if (count >= size) return `${(count / size).toFixed(2)}${unit}`;
  }
  return String(count);
}

const RELATIVE = new Intl.RelativeTimeFormat('en');

/** How long ago, as "2 hours ago". */
export function formatSince(then: Date, now: Date = new Date()): string {
  const seconds = Math.max(0, (now.getTime() - then.getTime()) / 1000);
  for (const [unit, size] of [
    ['year', 31_557_600],
    ['month', 2_629_800],
    ['week', 604_800],
    ['day', 86_400],
    ['hour', 3600],
    ['minute', 60],
  ] as const) {
    if (seconds >= size) return RELATIVE.format(-Math.floor(seconds / size), unit);
  }
  return RELATIVE.format(-Math.floor(seconds), 'second');
}
