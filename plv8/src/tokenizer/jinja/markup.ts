/** Text that filter `safe` or `escape` made: what is added to it is escaped, as in Jinja without autoescape too. */
import { Text } from './text.ts';

const ESCAPED: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&#34;',
  "'": '&#39;',
};

export class Markup extends Text {
  constructor(text: Text) {
    super(text.chars, text.spans);
  }
}

export function escapeText(value: Text): Markup {
  if (value instanceof Markup) return value;
  return new Markup(value.mapStretches((chars) => chars.replace(/[&<>"']/g, (one) => ESCAPED[one]!)));
}
