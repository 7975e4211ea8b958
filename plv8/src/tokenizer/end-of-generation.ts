import { idSetting, idsSetting, TOKEN_TYPE } from './vocabulary.ts';
import type { Vocabulary } from './vocabulary.ts';

/** Tokens that end an answer, whatever the file says about them; the names that published models use. */
const END_NAMES: ReadonlySet<string> = new Set([
  '<|eot_id|>',
  '<|im_end|>',
  '<|end|>',
  '<|return|>',
  '<|call|>',
  '<|flush|>',
  '<|calls|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '</s>',
  '<|eom_id|>',
  '<EOT>',
  '_<EOT>',
  '[EOT]',
  '[EOS]',
  '<|end_of_text|>',
  '<end_of_utterance>',
  '<eos>',
  '<turn|>',
  '<|tool_response>',
  '<｜end▁of▁sentence｜>',
  '[e~[',
]);

/** Padding and file-border tokens of code models: nothing sensible follows them either. */
const BORDER_NAMES: readonly (readonly [setting: string, names: readonly string[]])[] = [
  ['fim_pad_token_id', ['<|fim_pad|>', '<fim-pad>', '<fim_pad>', '<PAD>', '[PAD]']],
  ['fim_rep_token_id', ['<|fim_repo|>', '<|repo_name|>', '<fim-repo>', '<REPO>', '<reponame>']],
  ['fim_sep_token_id', ['<|file_sep|>']],
];

/**
 * The ids that end generation: eos, eot and eom as the file says, and known names. `types` is corrected in place: a
 * token of such a name is a control token even where the file forgot to say so.
 */
export function endOfGeneration(
  vocabulary: Vocabulary,
  idOf: ReadonlyMap<string, number>,
  types: Int8Array,
  eosId: number | null,
): Set<number> {
  const ends = new Set<number>();
  for (const [setting, names] of BORDER_NAMES) {
    const named = names.map((name) => idOf.get(name)).find((id) => id !== undefined);
    const stated = idSetting(vocabulary, setting, null);
    const id = stated ?? named;
    if (id === undefined) continue;
    ends.add(id);
    if (stated === null) types[id] = TOKEN_TYPE.control;
  }
  for (const name of END_NAMES) {
    const id = idOf.get(name);
    if (id === undefined) continue;
    ends.add(id);
    types[id] = TOKEN_TYPE.control;
  }
  for (const id of [eosId, idSetting(vocabulary, 'eot_token_id', null), idSetting(vocabulary, 'eom_token_id', null)]) {
    if (id !== null) ends.add(id);
  }
  // Ollama's converter lists them where a model has several.
  for (const id of idsSetting(vocabulary, 'eos_token_ids')) ends.add(id);
  keepMidAnswerTokens(idOf, ends, types);
  return ends;
}

/** Where other tokens end a turn, `<|end|>` ends a message inside it, and `</s>` is ordinary text. */
function keepMidAnswerTokens(idOf: ReadonlyMap<string, number>, ends: Set<number>, types: Int8Array): void {
  const calls = idOf.has('<|call|>') || idOf.has('<|calls|>');
  const end = idOf.get('<|end|>');
  if (end !== undefined && calls && (idOf.has('<|return|>') || idOf.has('<|flush|>'))) {
    ends.delete(end);
    types[end] = TOKEN_TYPE.userDefined;
  }
  const closing = idOf.get('</s>');
  if (closing !== undefined && idOf.has('<|tool_response>')) {
    ends.delete(closing);
    types[closing] = TOKEN_TYPE.normal;
  }
}
