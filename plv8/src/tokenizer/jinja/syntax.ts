/** Nodes of a parsed template. */
import type { Text } from './text.ts';
import type { Float, None } from './values.ts';

export interface CallArguments {
  positional: Expression[];
  named: [name: string, value: Expression][];
  /** *list and **dict */
  list: Expression | null;
  dict: Expression | null;
}

export type Expression =
  | { type: 'constant'; value: None | boolean | number | bigint | Float | Text }
  | { type: 'name'; name: string }
  | { type: 'list' | 'tuple'; items: Expression[] }
  | { type: 'dict'; items: [key: Expression, value: Expression][] }
  | { type: 'attribute'; of: Expression; name: string }
  | { type: 'item'; of: Expression; key: Expression }
  | { type: 'slice'; start: Expression | null; stop: Expression | null; step: Expression | null }
  | { type: 'call'; callee: Expression; args: CallArguments }
  | { type: 'filter'; of: Expression; name: string; args: CallArguments }
  | { type: 'test'; of: Expression; name: string; args: CallArguments }
  | { type: 'unary'; operator: '-' | '+' | 'not'; of: Expression }
  | { type: 'binary'; operator: string; left: Expression; right: Expression }
  | { type: 'concat'; parts: Expression[] }
  | { type: 'compare'; first: Expression; rest: [operator: string, right: Expression][] }
  | { type: 'condition'; test: Expression; yes: Expression; no: Expression | null };

export type Target =
  { type: 'name'; name: string } | { type: 'field'; of: string; name: string } | { type: 'targets'; items: Target[] };

export interface Parameters {
  names: string[];
  /** of the last ones */
  defaults: Expression[];
}

export type Statement =
  | { type: 'text'; text: Text }
  | { type: 'output'; value: Expression }
  | { type: 'if'; branches: [test: Expression, body: Statement[]][]; otherwise: Statement[] }
  | {
      type: 'for';
      target: Target;
      over: Expression;
      test: Expression | null;
      recursive: boolean;
      body: Statement[];
      otherwise: Statement[];
    }
  | { type: 'break' | 'continue' }
  | { type: 'set'; target: Target; value: Expression }
  | { type: 'setBlock'; target: Target; filters: Filter[]; body: Statement[] }
  | { type: 'filterBlock'; filters: Filter[]; body: Statement[] }
  | { type: 'with'; values: [target: Target, value: Expression][]; body: Statement[] }
  | { type: 'scope'; body: Statement[] }
  | { type: 'macro'; name: string; parameters: Parameters; body: Statement[] }
  | { type: 'callBlock'; call: Expression; parameters: Parameters; body: Statement[] };

export interface Filter {
  name: string;
  args: CallArguments;
}
