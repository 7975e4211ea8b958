/** As much of a document as the script of the page touches, so that it runs where there is no browser. */
import { runInNewContext } from 'node:vm';

/** An element or a text. Properties are those that the script sets; what is none of them becomes an attribute. */
export class FakeNode {
  children: FakeNode[] = [];
  readonly attributes = new Map<string, string>();
  readonly dataset: Record<string, string> = {};
  readonly style = { cssText: '' };
  readonly painted: { style: string; alpha: number; rect: number[] }[] = [];
  private readonly listeners = new Map<string, ((event: object) => void)[]>();
  className = '';
  title = '';
  type = '';
  id = '';
  scope = '';
  label = '';
  htmlFor = '';
  value = '';
  selected = false;
  tabIndex = 0;
  width = 0;
  height = 0;
  ariaLabel = '';
  ariaHidden = '';
  ariaLive = '';
  onclick: (() => void) | null = null;
  onchange: (() => void) | null = null;
  readonly scrollLeft = 0;
  readonly clientWidth = 0;
  readonly scrollWidth = 0;
  private text = '';

  constructor(
    readonly name: string,
    private readonly document: FakeDocument,
  ) {}

  get textContent(): string {
    return this.text + this.children.map((child) => child.textContent).join('');
  }

  set textContent(text: string) {
    this.children = [];
    this.text = text;
  }

  append(...children: (FakeNode | string)[]): void {
    this.children.push(...children.map((child) => this.document.nodeOf(child)));
  }

  prepend(...children: (FakeNode | string)[]): void {
    this.children.unshift(...children.map((child) => this.document.nodeOf(child)));
  }

  replaceChildren(...children: (FakeNode | string)[]): void {
    this.textContent = '';
    this.append(...children);
  }

  setAttribute(name: string, value: string): void {
    this.attributes.set(name, value);
  }

  removeAttribute(name: string): void {
    this.attributes.delete(name);
  }

  addEventListener(type: string, listener: (event: object) => void): void {
    this.listeners.set(type, [...(this.listeners.get(type) ?? []), listener]);
  }

  focus(): void {
    this.document.focused = this;
  }

  /** A key that is pressed here. */
  press(key: string): void {
    for (const listener of this.listeners.get('keydown') ?? []) listener({ key, preventDefault: () => undefined });
  }

  /** Only of a canvas: what is drawn goes to `painted`. */
  getContext(): object {
    const { painted } = this;
    const context = {
      fillStyle: '',
      globalAlpha: 1,
      fillRect(...rect: number[]): void {
        painted.push({ style: context.fillStyle, alpha: context.globalAlpha, rect });
      },
    };
    return context;
  }

  /** Every element within it that `is` holds of, in the order of the document. */
  all(is: (node: FakeNode) => boolean): FakeNode[] {
    return this.children.flatMap((child) => [...(is(child) ? [child] : []), ...child.all(is)]);
  }
}

class FakeDocument {
  focused: FakeNode | null = null;
  readonly documentElement = new FakeNode('html', this);
  private readonly named = new Map<string, FakeNode>();

  nodeOf(child: FakeNode | string): FakeNode {
    if (child instanceof FakeNode) return child;
    const node = this.createElement('#text');
    node.textContent = child;
    return node;
  }

  createElement(name: string): FakeNode {
    return new FakeNode(name, this);
  }

  getElementById(id: string): FakeNode {
    const known = this.named.get(id) ?? this.createElement(id);
    this.named.set(id, known);
    return known;
  }

  querySelectorAll(): FakeNode[] {
    return [];
  }
}

export interface OpenedPage {
  /** The element of that id. */
  byId(id: string): FakeNode;
  /** What has the focus. */
  focused(): FakeNode | null;
}

/** Run the script of a page of `hartonomous explain --html` over its data. Throws what the script throws. */
export function openPage(html: string): OpenedPage {
  const [, data, script] =
    /<script type="application\/json" id="data">([\s\S]*?)<\/script>\s*<script>([\s\S]*?)<\/script>/.exec(html) ?? [];
  if (data === undefined || script === undefined) throw new Error('the page has no data or no script');
  const document = new FakeDocument();
  document.getElementById('data').textContent = data;
  const properties: Record<string, string> = { '--mark': ' 1 2 3', '--ink': '#111', '--soft': '#666' };
  runInNewContext(script, {
    document,
    Node: FakeNode,
    getComputedStyle: () => ({ getPropertyValue: (name: string) => properties[name] ?? '' }),
    matchMedia: () => ({ addEventListener: () => undefined }),
    addEventListener: () => undefined,
    atob,
  });
  return { byId: (id) => document.getElementById(id), focused: () => document.focused };
}
