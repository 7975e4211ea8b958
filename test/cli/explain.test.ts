/** The command `explain`, and its page in a browser where there is one. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseQuestion } from '../../cli/explain/find-token.ts';
import { hilbertEncode } from '../../plv8/src/hilbert/hilbert.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import type { FakeNode, OpenedPage } from './fake-document.ts';
import { openPage } from './fake-document.ts';
import { hartonomous } from './program.ts';

const TINY = fileURLToPath(new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url));
/** A browser; CHROMIUM names one that is elsewhere. */
const CHROMIUM =
  process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const MAX_PAGE_BYTES = 2_000_000;
/** What the map adds to a page of 300 tokens. */
const MAX_MAP_BYTES = 200_000;
/** Where screenshots go for a person to look at; none are taken when it is not set. */
const SCREENSHOTS = process.env.EXPLAIN_SCREENSHOTS;

let database: TestDatabase;
let folder: string;

beforeAll(async () => {
  database = await createDatabase();
  folder = mkdtempSync(join(tmpdir(), 'hartonomous-page-'));
  await ingestFile(database.url, TINY, 'tiny');
  await hartonomous(['run', 'tiny', '--temperature', '0', 'Hello, how are you?'], { url: database.url });
});

afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await database.drop();
});

describe('a question', () => {
  test.each<[string, string | null, string | null]>([
    [`why did you say 'well'?`, 'well', null],
    [`why did you say "doing well"?`, 'doing well', null],
    [`why did you say 'I'm'?`, `I'm`, null],
    [`why didn't you say 'no'?`, 'no', null],
    [`why 'well' and not 'fine'?`, 'well', 'fine'],
    [`why ‘well’?`, 'well', null],
    ['well', 'well', null],
    ['why did you say that', null, null],
  ])('%s', (question, said, versus) => {
    expect(parseQuestion(question)).toEqual({ said, versus });
  });
});

describe('hartonomous explain', () => {
  const explain = (...args: string[]) => hartonomous(['explain', ...args], { url: database.url });

  test('prints the summary of the token that the question quotes', async () => {
    const { code, stdout } = await explain(`why did you say 'well'?`);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Token ' well' selected via:\n1\. /);
    expect(stdout).toMatch(/^\d\. attention from position \d+ '.+' \(layer \d, head \d, .+ nats less likely\)$/m);
    expect(stdout).toMatch(/^\d\. FFN contribution \(layer \d, [+-]\d+\.\d logit over '.+ nats less likely\)$/m);
    expect(stdout).toMatch(/^Runner-up: '/m);
  });

  test('gives JSON with every row', async () => {
    const { stdout } = await explain(`'well'`, '--format', 'json');
    const answer = JSON.parse(stdout) as Record<string, unknown[]>;
    expect(answer.token).toBe(' well');
    for (const rows of ['candidates', 'components', 'lens', 'input_rows'])
      expect(answer[rows]!.length).toBeGreaterThan(3);
  });

  test.each<[string[], number, RegExp]>([
    [[`'zebra'`], 1, /^hartonomous: no recorded run of yours says 'zebra'\n/],
    [['why', 'did', 'you'], 2, /^hartonomous: nothing to explain: the question quotes no word\n/],
    [[`'o'`], 2, /^hartonomous: run 1 says 'o' at steps .+\nname one: --run 1 --step \d+\n/],
    [[`'well'`, '--step', '0'], 2, /^hartonomous: run 1 says 'well' at steps 3, not at step 0\n/],
    [['--run', '1', '--step', '99'], 1, /^hartonomous: run 1 has steps 0 to \d+, got 99\n/],
    [['--run', 'x'], 2, /^hartonomous: option --run must be a whole number, got x\n/],
    [['--run', '1', '--html', '/nowhere/page.html'], 1, /^hartonomous: could not write \/nowhere\/page.html: /],
  ])('%j fails with %i', async (args, exitCode, message) => {
    const { code, stderr } = await explain(...args);
    expect(stderr).toMatch(message);
    expect(code).toBe(exitCode);
  });
});

interface Placed {
  place?: number | null;
}
interface PageData {
  map: { tokens: number; side: number } | null;
  prompt: Placed[];
  tokens: (Placed & { candidates: unknown[][] })[];
}
/** What the script of a page reads. */
const dataOf = (page: string): PageData => JSON.parse(/id="data">([\s\S]*?)<\/script>/.exec(page)![1]!) as PageData;

describe('the page', () => {
  test('has 300 tokens in less than 2 MB', async () => {
    const { rows } = await database.pool.query<{ id: string }>(
      `select hartonomous.complete('Tell me a story', options => '{"num_predict": 300, "temperature": 2, "top_k": 0,
         "top_p": 1, "record": true, "seed": 4, "logit_bias": {"3069": -1000, "3070": -1000, "3071": -1000}}')->>'run_id' as id`,
    );
    const file = join(folder, 'long.html');
    const { code } = await hartonomous(['explain', '--run', rows[0]!.id, '--html', file], { url: database.url });
    expect(code).toBe(0);
    expect(
      (await database.pool.query('select 1 from hartonomous.explanations where run_id = $1', [rows[0]!.id])).rows
        .length,
    ).toBe(300);
    expect(statSync(file).size).toBeLessThan(MAX_PAGE_BYTES);
    const page = dataOf(readFileSync(file, 'utf8'));
    const whole = JSON.stringify(page).length;
    page.map = null;
    for (const one of [...page.prompt, ...page.tokens]) delete one.place;
    for (const one of page.tokens) one.candidates = one.candidates.map((candidate) => candidate.slice(0, 6));
    const added = whole - JSON.stringify(page).length;
    expect(added).toBeGreaterThan(300 * 10);
    expect(added).toBeLessThan(MAX_MAP_BYTES);
  });

  test('shows a character of several tokens once, and names its parts', async () => {
    const { rows } = await database.pool.query<{ id: string }>(
      `select hartonomous.complete('A 😀 é', options => '{"num_predict": 2, "record": true}')->>'run_id' as id`,
    );
    interface Token {
      text: string;
      whole?: string;
      part?: string;
    }
    const { rows: pages } = await database.pool.query<{ page: { prompt: Token[] } }>(
      `select hartonomous._explain_page($1, 'none') as page`,
      [rows[0]!.id],
    );
    const { prompt } = pages[0]!.page;
    expect(prompt.map(({ text }) => text).join('')).toContain('A 😀 é');
    const parts = prompt.filter(({ whole }) => whole?.includes('😀'));
    expect(parts.map(({ text }) => text.includes('😀'))).toEqual([true, false, false, false]);
    expect(parts.map(({ part }) => part)).toEqual([1, 2, 3, 4].map((byte) => `bytes ${byte} of 4`));
    const { rows: seen } = await database.pool.query<{ to_token: string }>(
      `select distinct to_position, to_token from hartonomous.explain_attention($1, 0, 0) order by to_position`,
      [rows[0]!.id],
    );
    expect(seen.filter(({ to_token: text }) => text.includes('😀'))).toHaveLength(4);
    expect(seen.filter(({ to_token: text }) => text.includes('\ufffd'))).toEqual([]);
  });

  test('shows text of a model as text', async () => {
    await database.pool.query(
      `select hartonomous.complete('</script><img src=x onerror=alert(1)>', options => '{"num_predict": 2, "record": true}')`,
    );
    const file = join(folder, 'hostile.html');
    const { rows } = await database.pool.query<{ id: string }>('select max(id)::text as id from hartonomous.run_list');
    await hartonomous(['explain', '--run', rows[0]!.id, '--html', file], { url: database.url });
    expect(readFileSync(file, 'utf8')).not.toContain('</script><img');
  });
});

/** The page's script over the data of a run, without a browser. */
describe('the map of the page', () => {
  let html: string;

  /** A page of run 1. */
  async function written(name: string): Promise<string> {
    const file = join(folder, name);
    const { code, stderr } = await hartonomous(['explain', '--run', '1', '--step', '3', '--html', file], {
      url: database.url,
    });
    expect(stderr).toBe('');
    expect(code).toBe(0);
    return readFileSync(file, 'utf8');
  }

  beforeAll(async () => {
    html = await written('map.html');
  });

  const tabs = (page: OpenedPage): FakeNode[] => page.byId('tabs').children;
  function openMap(page: OpenedPage): FakeNode {
    tabs(page).find((tab) => tab.textContent === 'Map')!.onclick!();
    return page.byId('panel');
  }
  const points = (panel: FakeNode): FakeNode[] =>
    panel.all((node) => node.className === 'map')[0]!.all((node) => node.name === 'button');
  const cells = (panel: FakeNode): string[][] =>
    panel.all((node) => node.name === 'tbody')[0]!.children.map((row) => row.children.map((cell) => cell.textContent));
  const strengths = (panel: FakeNode): number[] =>
    points(panel).map((point) => Number(/--strength:([\d.]+)$/.exec(point.style.cssText)![1]));
  function colourBy(panel: FakeNode, column: string): void {
    const picker = panel.all((node) => node.name === 'select')[0]!;
    picker.value = picker.all((node) => node.name === 'option').find((one) => one.textContent === column)!.value;
    picker.onchange!();
  }

  test('puts every token where its rank along the curve is', async () => {
    const { map, prompt, tokens } = dataOf(html);
    const { rows } = await database.pool.query<{ token_id: number; rank: number; tokens: number }>(
      `select token_id, row_number() over (order by hilbert, token_id)::int - 1 as rank, count(*) over ()::int as tokens
       from hartonomous.token_embeddings`,
    );
    expect(map!.tokens).toBe(rows.length);
    const ranks = new Map(rows.map((row) => [row.token_id, row.rank]));
    const { rows: runs } = await database.pool.query<{ prompt_ids: number[]; output_ids: number[] }>(
      'select prompt_ids, output_ids from hartonomous.runs where id = 1',
    );
    const bits = Math.log2(map!.side);
    const rankAt = (place: number): number =>
      Number(hilbertEncode([place % map!.side, Math.floor(place / map!.side)], bits));
    const text = [...prompt, ...tokens].map(({ place }) => rankAt(place!));
    const ids = [...runs[0]!.prompt_ids, ...runs[0]!.output_ids];
    ids.forEach((id, p) => expect(text[p]).toBe(Math.floor((ranks.get(id)! * map!.side ** 2) / rows.length)));
    const candidates = tokens.flatMap((token) => token.candidates.map((one) => one[8]));
    expect(candidates.every((place) => typeof place === 'number')).toBe(true);
  });

  test('shows candidates and text, the written token marked, coloured by their final probability', () => {
    const panel = openMap(openPage(html));
    const { map, prompt, tokens } = dataOf(html);
    const about = [...prompt, ...tokens.slice(0, 3)].map(({ place }) => place);
    const places = new Set([...about, ...tokens[3]!.candidates.map((one) => one[8])]);
    expect(points(panel)).toHaveLength(places.size);
    expect(panel.textContent).toContain(`The ${map!.tokens} tokens of the vocabulary`);
    const own = points(panel).filter((point) => point.className.includes('own'));
    expect(own.map((point) => point.ariaLabel)).toEqual([
      expect.stringMatching(/^' well', written here.*, final probability 100.0 %$/),
    ]);
    expect(own[0]!.attributes.get('aria-pressed')).toBe('true');
    expect(Math.max(...strengths(panel))).toBe(1);
    // One pixel a cell of the background, none of it opaque.
    const [canvas] = panel.all((node) => node.name === 'canvas');
    expect(canvas!.painted).toHaveLength(canvas!.width * canvas!.height);
    expect(canvas!.painted.every(({ alpha }) => alpha >= 0 && alpha <= 0.35)).toBe(true);
  });

  test('says in a table all that it shows, the strongest first', () => {
    const panel = openMap(openPage(html));
    const rows = cells(panel);
    expect(rows).toHaveLength(points(panel).length);
    expect(rows[0]!.slice(0, 2)).toEqual(["' well'", '100.0 %']);
    const { map } = dataOf(html);
    for (const [, , is, column, row] of rows) {
      expect(is).not.toBe('');
      expect(Number(column)).toBeLessThan(map!.side);
      expect(Number(row)).toBeLessThan(map!.side);
    }
  });

  test.each([
    ['probability by the model', /%$/],
    ['logit', /^-?\d+\.\d\d$/],
    ['logit after penalties', /^-?\d+\.\d\d$/],
    ['rank', /^\d+$/],
    ['in the prompt', /^once$|^\d+ times$/],
    ['in the answer before', /^once$|^\d+ times$/],
    ['attention', /%$/],
    ['crowding of embeddings (log2)', /^-?\d+\.\d$/],
    ['norm of embeddings', /^\d+\.\d\d$/],
    ['number of the token', /^\d+$/],
  ])('can be coloured by %s', (column, form) => {
    const panel = openMap(openPage(html));
    const before = points(panel).length;
    colourBy(panel, column);
    expect(points(panel)).toHaveLength(before);
    expect(
      panel.all((node) => node.name === 'th').map((node) => node.textContent.replace(', around it', '')),
    ).toContain(column);
    const values = cells(panel).map((row) => row[1]!);
    const known = values.filter((value) => value !== '');
    expect(known.length).toBeGreaterThan(0);
    for (const value of known) expect(value).toMatch(form);
    // What has no value comes last, and is hollow.
    expect(values.slice(known.length)).toEqual(values.slice(known.length).map(() => ''));
    expect(strengths(panel).filter((each) => each > 0)).toHaveLength(known.length);
    expect(strengths(panel).every((each) => each >= 0 && each <= 1)).toBe(true);
  });

  test('keeps its column when another token is chosen', () => {
    const page = openPage(html);
    colourBy(openMap(page), 'rank');
    page.byId('text').all((node) => node.name === 'button')[0]!.onclick!();
    const panel = page.byId('panel');
    expect(panel.all((node) => node.name === 'option' && node.selected).map((node) => node.textContent)).toEqual([
      'rank',
    ]);
    expect(cells(panel)[0]![1]).toBe('1');
  });

  test('is used with the keyboard alone', () => {
    const page = openPage(html);
    const panel = openMap(page);
    const map = panel.all((node) => node.className === 'map')[0]!;
    const facts = panel.all((node) => node.ariaLive === 'polite')[0]!;
    expect(facts.textContent).toMatch(/^' well': written here/);
    expect(points(panel).filter((point) => point.tabIndex === 0)).toHaveLength(1);
    map.press('Home');
    map.press('ArrowRight');
    expect(page.focused()).toBe(points(panel)[1]);
    expect(points(panel).map((point) => point.tabIndex)).toEqual(points(panel).map((_, i) => (i === 1 ? 0 : -1)));
    expect(facts.textContent.split(':')[0]).toBe(points(panel)[1]!.title);
    map.press('End');
    expect(page.focused()).toBe(points(panel).at(-1));
  });

  test('is not there where a model has no embeddings along the curve', async () => {
    await database.pool.query('create table public.kept as select * from hartonomous.token_embeddings');
    await database.pool.query('delete from hartonomous.token_embeddings');
    try {
      const without = await written('without-map.html');
      expect(dataOf(without).map).toBeNull();
      const page = openPage(without);
      expect(tabs(page).map((tab) => tab.textContent)).toEqual([
        'Candidates',
        'Lens',
        'Components',
        'Attention',
        'Inputs',
      ]);
      expect(page.byId('panel').textContent).toContain('Likeliest first');
    } finally {
      await database.pool.query('insert into hartonomous.token_embeddings select * from public.kept');
      await database.pool.query('drop table public.kept');
    }
  });
});

if (CHROMIUM === undefined) console.log('skipped the page in a browser: there is no chromium on this machine');

describe.skipIf(CHROMIUM === undefined)('the page in a browser', () => {
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];
  const requests: string[] = [];

  beforeAll(async () => {
    const file = join(folder, 'page.html');
    await hartonomous(['explain', '--run', '1', '--step', '3', '--html', file], { url: database.url });
    browser = await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox'] });
    page = await browser.newPage({ viewport: { width: 1000, height: 900 } });
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(file).toString());
  });

  afterAll(async () => {
    await browser?.close();
  });

  const summary = () => page.locator('#summary').innerText();
  const panel = () => page.locator('#panel').innerText();
  async function look(name: string): Promise<void> {
    if (SCREENSHOTS !== undefined) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
  }

  test('opens with the token asked about, and another one is a click away', async () => {
    expect(await summary()).toMatch(/^Token ' well' selected via:/);
    await look('candidates');
    await page.locator('.written button').first().click();
    expect(await summary()).toMatch(/^Token 'I' selected via:/);
  });

  test('shows doubt in the tokens, the likeliest candidate first, and no certainty that there was not', async () => {
    const p = (JSON.parse(await page.locator('#data').innerText()) as { tokens: { p: number }[] }).tokens.map(
      (t) => t.p,
    );
    const shown = await page
      .locator('.written button')
      .evaluateAll((all) => all.map((one) => Number(one.style.getPropertyValue('--doubted'))));
    expect(shown).toEqual(p.map((each) => Number((1 - each).toFixed(2))));
    const finals = await page.locator('#panel tbody td:nth-child(5)').allInnerTexts();
    expect(finals[0]).toBe('100.0 %');
    const models = await page.locator('#panel tbody td:nth-child(3)').allInnerTexts();
    expect(models.some((each) => each === '< 0.1 %')).toBe(true);
    expect(models).not.toContain('0.0 %');
    expect(models).not.toContain('100.0 %');
  });

  test("marks what the template wrote, and names whose words the caller's are", async () => {
    expect(await page.locator('#text .template').allInnerTexts()).toContain('<|im_start|>');
    expect(await page.locator('#text .prompt[title=user]').allInnerTexts()).toContain(' how');
  });

  test('has every view behind its tab', async () => {
    for (const [tab, words] of [
      ['Lens', 'likeliest'],
      ['Components', "For 'I' and against '"],
      ['Components', 'layer 3 FFN'],
      ['Attention', 'Attention rollout'],
      ['Attention', "' at 1"],
      ['Inputs', 'speaks for it'],
      ['Map', 'tokens of the vocabulary'],
      ['Candidates', 'Entropy'],
    ] as const) {
      await page.getByRole('tab', { name: tab }).click();
      expect(await panel()).toContain(words);
      await look(tab.toLowerCase());
    }
  });

  test('draws the map by the column that is picked', async () => {
    await page.getByRole('tab', { name: 'Map' }).click();
    const box = (await page.locator('.map').boundingBox())!;
    expect(Math.abs(box.width - box.height)).toBeLessThan(1);
    await page.getByLabel('Colour by').focus();
    await page.getByLabel('Colour by').selectOption('norm of embeddings');
    expect(await page.locator('#panel th').allInnerTexts()).toContain('norm of embeddings, around it');
    await look('map-norm');
    await page.getByLabel('Colour by').selectOption('in the prompt');
    await look('map-prompt');
    expect(await page.evaluate('document.activeElement.id')).toBe('column');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Home');
    expect(await page.evaluate(`document.activeElement === document.querySelector('.map button')`)).toBe(true);
    await page.getByLabel('Colour by').selectOption('final probability');
  });

  test('is used with the keyboard alone', async () => {
    await page.reload();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Home');
    expect(await summary()).toMatch(/^Token 'I' /);
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowRight');
    expect(await summary()).toMatch(/^Token ' doing' /);
    await page.keyboard.press('Tab');
    await page.keyboard.press('ArrowRight');
    expect(await page.getByRole('tab', { selected: true }).innerText()).toBe('Lens');
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.id')).toBe('panel');
  });

  test('fits 400 pixels and is dark where that is wanted', async () => {
    await page.setViewportSize({ width: 400, height: 800 });
    const light = await page.evaluate('getComputedStyle(document.body).backgroundColor');
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).not.toBe(light);
    for (const tab of ['Lens', 'Components', 'Attention', 'Inputs', 'Map', 'Candidates']) {
      await page.getByRole('tab', { name: tab }).click();
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(400);
      // Only what is as wide as the text may be cut off, and it says so.
      const cut = `[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth - box.clientWidth > 1)`;
      const count = await page.evaluate(`${cut}.length`);
      if (tab !== 'Lens' && tab !== 'Attention') expect(count, tab).toBe(0);
      const told = `${cut}.filter((box) => box.dataset.more === 'right' && box.tabIndex === 0 && getComputedStyle(box.nextSibling).display !== 'none').length`;
      expect(await page.evaluate(told), tab).toBe(count);
      if (tab === 'Lens') {
        expect(count).toBeGreaterThan(0);
        await page.locator('.scroll').first().focus();
        await page.keyboard.press('ArrowRight');
        await page.waitForFunction(`document.querySelector('.scroll').dataset.more === 'both'`);
      }
      await look(`narrow-dark-${tab.toLowerCase()}`);
    }
  });

  test('asks for nothing over the network and has no complaints', () => {
    expect(requests.filter((url) => !url.startsWith('file:') && !url.startsWith('data:'))).toEqual([]);
    expect(complaints).toEqual([]);
  });
});
