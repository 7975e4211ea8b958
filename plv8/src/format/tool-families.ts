/** How families of models write calls of tools; their chat templates name the marks as well. */

export interface ToolFamily {
  name: string;
  /**
   * How a call is written: an `object` of name and arguments; `named`, the name before an object of arguments; `tags` around
   * every argument; or `python`.
   */
  form: 'object' | 'named' | 'tags' | 'python';
  /** what stands before a call or a list of calls; empty where calls are the whole answer */
  open: string;
  /** what stands after them */
  close: string;
  /** the member of an object that holds the arguments */
  member: 'arguments' | 'parameters';
}

/** What calls look like where nothing else is known: as Hermes, Qwen 2.5 and 3, SmolLM and Granite 4 write them. */
export const TOOL_CALL_TAGS: ToolFamily = {
  name: 'hermes',
  form: 'object',
  open: '<tool_call>',
  close: '</tool_call>',
  member: 'arguments',
};

interface KnownFamily extends ToolFamily {
  /** each of these stands in the family's templates */
  marks: readonly RegExp[];
}

const FAMILIES: readonly KnownFamily[] = [
  // Qwen 3 Coder, Qwen 3.5, Nemotron 3 Nano
  { ...TOOL_CALL_TAGS, name: 'tags', form: 'tags', marks: [/<function=/, /<parameter=/, /<tool_call>/] },
  // Phi 4 Mini
  {
    ...TOOL_CALL_TAGS,
    name: 'phi4',
    open: '<|tool_call|>',
    close: '<|/tool_call|>',
    marks: [/<\|\/tool_call\|>|<\|\/tool\|>/],
  },
  // Granite 3
  { ...TOOL_CALL_TAGS, name: 'granite', open: '<|tool_call|>', close: '', marks: [/<\|tool_call\|>/] },
  // Mistral Small 3.2, Devstral, Ministral 3
  { ...TOOL_CALL_TAGS, name: 'mistral', form: 'named', open: '[TOOL_CALLS]', close: '', marks: [/\[ARGS\]/] },
  // Mistral 7B v0.3, Nemo
  { ...TOOL_CALL_TAGS, name: 'mistral-list', open: '[TOOL_CALLS]', close: '', marks: [/\[TOOL_CALLS\]/] },
  // Llama 3.2 and 4 as Meta's documents have them
  { ...TOOL_CALL_TAGS, name: 'pythonic', form: 'python', open: '', close: '', marks: [/\[func(tion)?_name1?\(/] },
  // Llama 3.1, 3.2, 3.3
  { ...TOOL_CALL_TAGS, name: 'llama', open: '', close: '', member: 'parameters', marks: [/"parameters": dictionary/] },
];

/** The family whose marks a chat template has, else that of `TOOL_CALL_TAGS`. */
export function toolFamily(template: string): ToolFamily {
  const found = FAMILIES.find(({ marks }) => marks.every((mark) => mark.test(template)));
  if (found === undefined) return TOOL_CALL_TAGS;
  const { name, form, open, close, member } = found;
  return { name, form, open, close, member };
}

/** Whether a chat template shows tools by itself. */
export function showsTools(template: string): boolean {
  return /\btools\b/.test(template);
}
