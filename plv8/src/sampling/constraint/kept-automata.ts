/** Grammars that were compiled last, for the next answer that has to be the same. An owner meets its own only. */
import { raise, SQLSTATE } from '../../errors.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { Room } from './automaton.ts';
import { Automaton, USUAL_ROOM } from './automaton.ts';
import type { Grammar } from './grammar.ts';
import { keyOf, nameOf, shallow } from './grammar.ts';
import { TokenTrie } from './token-trie.ts';
import { marksOf } from './tool-grammar.ts';

/** Compiled grammars of a vocabulary that are kept for the next call, where nobody says another number. */
const MAX_KEPT = 8;

/** Milliseconds that a grammar may take to be made; bounds on its states come first where the machine is not busy. */
const MAX_MAKING_MS = 60_000;

const tries = new WeakMap<Tokenizer, Map<string, TokenTrie>>();

export class KeptAutomata {
  /** By owner and grammar; the least recently used first. */
  private readonly automata = new WeakMap<Tokenizer, Map<string, Automaton>>();

  /** Keeps `most` of a vocabulary. One that takes more than `room` throws OutOfRoom. */
  constructor(
    private readonly most = MAX_KEPT,
    private readonly room: Room = USUAL_ROOM,
  ) {}

  /** The automaton of a grammar, which is made where this owner has none. */
  find(tokenizer: Tokenizer, owner: string, grammar: Grammar, poll: () => void): Automaton {
    const key = JSON.stringify([owner]) + keyOf(grammar);
    const kept = this.of(tokenizer);
    const automaton = kept.get(key) ?? this.make(tokenizer, grammar, poll);
    kept.delete(key);
    for (const oldest of kept.keys()) {
      if (kept.size < this.most) break;
      kept.delete(oldest);
    }
    kept.set(key, automaton);
    return automaton;
  }

  /** Forget automata of these vocabularies, but those in use, the least recently used first, until all of them take at most `bytes`. */
  trim(tokenizers: readonly Tokenizer[], used: ReadonlySet<Automaton>, bytes: number): void {
    const kept = tokenizers.map((tokenizer) => this.of(tokenizer));
    const all = new Set([...used, ...kept.flatMap((each) => [...each.values()])]);
    let held = [...all].reduce((sum, automaton) => sum + automaton.bytes, 0);
    for (const each of kept) {
      for (const [key, automaton] of each) {
        if (held <= bytes) return;
        if (used.has(automaton)) continue;
        each.delete(key);
        held -= automaton.bytes;
      }
    }
  }

  private of(tokenizer: Tokenizer): Map<string, Automaton> {
    let kept = this.automata.get(tokenizer);
    if (kept === undefined) this.automata.set(tokenizer, (kept = new Map()));
    return kept;
  }

  private make(tokenizer: Tokenizer, grammar: Grammar, poll: () => void): Automaton {
    const vocabulary = trieFor(tokenizer, grammar);
    const deadline = Date.now() + MAX_MAKING_MS;
    let making = true;
    const timed = (): void => {
      poll();
      if (making && Date.now() > deadline) {
        raise(
          SQLSTATE.programLimitExceeded,
          `${nameOf(grammar)} takes more than ${MAX_MAKING_MS / 1000} seconds to be prepared`,
          { hint: 'a smaller schema, fewer alternatives, or lower bounds on repetition need less' },
        );
      }
    };
    const automaton = shallow(grammar, () => new Automaton(vocabulary, grammar, timed, this.room));
    making = false;
    return automaton;
  }
}

/** What answers are constrained with where nobody says otherwise. */
export const ownAutomata = new KeptAutomata();

/** The vocabulary as a tree, with the control tokens that the grammar speaks of. */
function trieFor(tokenizer: Tokenizer, grammar: Grammar): TokenTrie {
  const marks = grammar.kind === 'tool_call' ? marksOf(grammar) : [];
  const named = new Set<number>();
  for (let id = 0; marks.length > 0 && id < tokenizer.vocabSize; id++) {
    if (!tokenizer.isControl(id)) continue;
    const name = tokenizer.tokenText(id);
    if (name !== '' && marks.some((mark) => mark.includes(name))) named.add(id);
  }
  const key = [...named].join();
  let known = tries.get(tokenizer);
  if (known === undefined) tries.set(tokenizer, (known = new Map()));
  let trie = known.get(key);
  if (trie === undefined) known.set(key, (trie = new TokenTrie(tokenizer, named)));
  return trie;
}
