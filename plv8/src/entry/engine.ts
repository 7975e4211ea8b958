/** What the process of an engine calls. */
import { turn } from '../generate/engine/serve.ts';

export function engineTurn(): boolean {
  return turn();
}
