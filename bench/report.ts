/** The table of a run, for people, as a picture, and beside those of earlier runs. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import Table from 'cli-table3';
import { median, spread } from './statistics.ts';

export interface Row {
  what: string;
  unit: string;
  ours: number;
  /** (largest - smallest) / median */
  oursSpread: number | null;
  peer: number | null;
  peerSpread: number | null;
  /** Median of the rounds' ratios ours / peer; null where the bar is about our figure itself. */
  ratio: number | null;
  /** The least that is promised of the ratio, or of our figure where there is none; the most, where smaller is better. */
  bar: number | null;
  smaller: boolean;
}

/** Ours beside a peer's of the same rounds; without a peer there is nothing to hold the bar to. Of milliseconds less is better. */
export function comparison(
  what: string,
  unit: string,
  ours: readonly number[],
  peer: readonly number[] | null,
  bar: number | null,
): Row {
  return {
    what,
    unit,
    ours: median(ours),
    oursSpread: spread(ours),
    peer: peer === null ? null : median(peer),
    peerSpread: peer === null ? null : spread(peer),
    ratio: peer === null ? null : median(ours.map((value, i) => value / peer[i]!)),
    bar: peer === null ? null : bar,
    smaller: unit === 'ms',
  };
}

/** The machine, as results name it. */
export function thisMachine(): { processor: string | undefined; processors: number } {
  return { processor: cpus()[0]?.model, processors: cpus().length };
}

/** What rows are to be read with; the load is that before the first of the rounds. */
export function circumstancesOf(rounds: number): { rounds: number; load_before: number; measured_at: string } {
  return { rounds, load_before: loadavg()[0]!, measured_at: new Date().toISOString() };
}

/** Write rows to a file of results, in the place of those of the same name that earlier runs left there. */
export function keepRows(file: string, about: object, rows: readonly Row[]): void {
  const earlier = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { rows: Row[] }).rows : [];
  const kept = earlier.filter((row) => !rows.some(({ what }) => what === row.what));
  writeFileSync(file, `${JSON.stringify({ ...about, rows: [...rows, ...kept] }, null, 1)}\n`);
}

const percent = (value: number | null): string => (value === null ? '' : `${Math.round(value * 100)} %`);
const fixed = (value: number | null, digits: number): string => (value === null ? '' : value.toFixed(digits));

export function holds(row: Row): boolean | null {
  if (row.bar === null) return null;
  const value = row.ratio ?? row.ours;
  return row.smaller ? value <= row.bar : value >= row.bar;
}

export function printTable(title: string, rows: readonly Row[]): void {
  const table = new Table({
    head: [title, 'unit', 'hartonomous', 'spread', 'peer', 'spread', 'ratio', 'bar', ''],
    style: { head: [], border: [] },
  });
  for (const row of rows) {
    const kept = holds(row);
    table.push([
      row.what,
      row.unit,
      fixed(row.ours, row.ours < 10 ? 2 : 1),
      percent(row.oursSpread),
      fixed(row.peer, 1),
      percent(row.peerSpread),
      fixed(row.ratio, 2),
      row.bar === null ? '' : `${row.smaller ? '<=' : '>='} ${row.bar}`,
      kept === null ? '' : kept ? 'holds' : 'short',
    ]);
  }
  console.log(table.toString());
}

const WIDTH = 760;
const LINE = 24;
const LABELS = 330;
const escape = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

/** Ratios to llama.cpp as bars, with a line at its speed and a mark at what is promised. */
export function ratioPlot(title: string, rows: readonly Row[]): string {
  const shown = rows.filter((row) => row.ratio !== null && row.peer !== null && !row.smaller);
  const most = Math.max(1.2, ...shown.map((row) => row.ratio ?? 0));
  const x = (ratio: number): number => LABELS + (ratio / most) * (WIDTH - LABELS - 60);
  const height = (shown.length + 3) * LINE;
  const bars = shown.map((row, i) => {
    const y = (i + 1.5) * LINE;
    const ratio = row.ratio ?? 0;
    const mark = row.bar === null ? '' : `<path d="M${x(row.bar)} ${y}v${LINE - 6}" stroke="#c33" stroke-width="2"/>`;
    return [
      `<text x="${LABELS - 8}" y="${y + 13}" text-anchor="end">${escape(row.what)}</text>`,
      `<rect x="${LABELS}" y="${y}" width="${(x(ratio) - LABELS).toFixed(1)}" height="${LINE - 6}" fill="#4a7fb5"/>`,
      mark,
      `<text x="${(x(ratio) + 6).toFixed(1)}" y="${y + 13}">${ratio.toFixed(2)}</text>`,
    ].join('');
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="8" y="20" font-weight="bold">${escape(title)}</text>`,
    ...bars,
    `<path d="M${x(1)} ${LINE * 1.3}V${height - LINE}" stroke="#333" stroke-dasharray="4 3"/>`,
    `<text x="${x(1)}" y="${height - 8}" text-anchor="middle">the peer's speed; red: the bar</text>`,
    '</svg>',
    '',
  ].join('\n');
}
