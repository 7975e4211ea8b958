/** What begins with a slash at the prompt; the words are ollama's. */
import { brief } from '../../plv8/src/format/visible-text.ts';
import type { ChatMessage } from '../answer/backend.ts';
import { CommandError } from '../errors.ts';
import { showSection, showText } from '../answer/show-model.ts';
import type { Section, ShownModel } from '../answer/show-model.ts';
import { explainAnswer } from './explain-answer.ts';
import { savedConversation } from './conversation.ts';
import type { Repl } from './repl-state.ts';

const HELP = `Available Commands:
  /set            Set session variables
  /show           Show model information
  /load <name>    Load a saved conversation, or another model
  /save <name>    Save this conversation
  /clear          Clear the conversation
  /explain <word> Explain why the latest answer has a word
  /bye            Exit
  /?, /help       Help for a command
  /? shortcuts    Help for keyboard shortcuts

Use """ to begin a multi-line message.
`;

const HELP_SET = `Available Commands:
  /set parameter NAME VALUE  Set an option of generation; several values of stop may follow
  /set system <text>         Set the system message
  /set format json           Ask for answers in JSON
  /set noformat              Ask for plain answers
  /set history               Enable history
  /set nohistory             Disable history
  /set wordwrap              Enable word wrapping
  /set nowordwrap            Disable word wrapping
  /set verbose               Show rates after each answer
  /set quiet                 Show none
`;

const HELP_SHOW = `Available Commands:
  /show info         Show details of this model
  /show license      Show its license
  /show parameters   Show the options in use
  /show system       Show the system message
  /show template     Show its chat template
  /show messages     Show the conversation so far
`;

const HELP_SHORTCUTS = `Available keyboard shortcuts:
  Ctrl + a            Move to the beginning of the line
  Ctrl + e            Move to the end of the line
  Alt + b             Move back one word
  Alt + f             Move forward one word
  Ctrl + k            Delete to the end of the line
  Ctrl + u            Delete to the beginning of the line
  Ctrl + w            Delete the word before the cursor
  Up, Down            Earlier and later prompts
  Ctrl + l            Clear the screen
  Ctrl + c            Stop the answer
  Ctrl + d            Leave
`;

/** Run one slash command; `leave` ends the conversation. Throws CommandError for what cannot be done. */
export async function runSlashCommand(repl: Repl, input: string): Promise<'leave' | 'stay'> {
  const [command, ...words] = input.trim().split(/\s+/);
  const { terminal, conversation } = repl;
  switch (command) {
    case '/bye':
    case '/exit':
      return 'leave';
    case '/?':
    case '/help':
      terminal.tell(
        { set: HELP_SET, show: HELP_SHOW, shortcuts: HELP_SHORTCUTS }[words[0]?.replace(/^\//, '') ?? ''] ?? HELP,
      );
      return 'stay';
    case '/clear':
      conversation.messages = [];
      terminal.tell('cleared the conversation\n');
      return 'stay';
    case '/set':
      await set(repl, words, input);
      return 'stay';
    case '/show':
      await show(repl, words[0]);
      return 'stay';
    case '/explain':
      await explainAnswer(repl, input.trim().slice('/explain'.length).trim());
      return 'stay';
    case '/save':
      conversation.save(argument(words, '/save <name>'));
      terminal.tell(`saved the conversation as ${words[0]}\n`);
      return 'stay';
    case '/load':
      await load(repl, argument(words, '/load <name>'));
      return 'stay';
    default:
      throw new CommandError(`unknown command ${brief(command)}`, { hint: '/? lists the commands' });
  }
}

function argument(words: string[], usage: string): string {
  if (words.length !== 1) throw new CommandError(`usage: ${usage}`);
  return words[0]!;
}

export async function modelDetails(repl: Pick<Repl, 'backend'>, name: string): Promise<ShownModel> {
  const { rows } = await repl.backend.client.query<{ model: ShownModel }>(
    'select hartonomous.show_model($1) as model',
    [name],
  );
  return rows[0]!.model;
}

async function set(repl: Repl, words: string[], input: string): Promise<void> {
  const { terminal, conversation, settings } = repl;
  const [what, ...rest] = words;
  switch (what) {
    case 'parameter':
      await setParameter(repl, rest);
      return;
    case 'system': {
      const text = input.replace(/^\s*\/set\s+system\s*/, '');
      if (text === '') throw new CommandError('usage: /set system <text>');
      conversation.system = text;
      terminal.tell('set the system message\n');
      return;
    }
    case 'format':
      if (rest[0] !== 'json') throw new CommandError('usage: /set format json');
      await setOption(repl, 'response_format', { type: 'json_object' });
      terminal.tell('set format to json\n');
      return;
    case 'noformat':
      delete conversation.options.response_format;
      terminal.tell('disabled format\n');
      return;
    case 'history':
    case 'nohistory':
      terminal.saveHistory = what === 'history';
      return;
    case 'wordwrap':
    case 'nowordwrap':
      settings.wordWrap = what === 'wordwrap';
      terminal.tell(`set ${what}\n`);
      return;
    case 'verbose':
    case 'quiet':
      settings.verbose = what === 'verbose';
      terminal.tell(`set ${what} mode\n`);
      return;
    case undefined:
      terminal.tell(HELP_SET);
      return;
    default:
      throw new CommandError(`unknown command /set ${brief(what)}`, { hint: '/? set lists them' });
  }
}

/** A number, a truth value or a text, as the word looks; PostgreSQL knows which one an option takes. */
function valueOf(word: string): unknown {
  if (word === 'true' || word === 'false') return word === 'true';
  const number = Number(word);
  return Number.isFinite(number) ? number : word;
}

async function setParameter(repl: Repl, words: string[]): Promise<void> {
  const [name, ...values] = words;
  if (name === undefined || values.length === 0) throw new CommandError('usage: /set parameter NAME VALUE');
  if (name !== 'stop' && values.length > 1)
    throw new CommandError(`option ${brief(name)} takes one value, got ${values.length}`);
  await setOption(repl, name, name === 'stop' ? values : valueOf(values[0]!));
  repl.terminal.tell(`set parameter ${name} to ${values.join(', ')}\n`);
}

/** Set an option once PostgreSQL has found it right. */
async function setOption({ backend, conversation }: Repl, name: string, value: unknown): Promise<void> {
  const options = { ...conversation.options, [name]: value };
  if (conversation.hasTemplate) {
    await backend.client.query('select hartonomous.render_chat($1, $2, $3)', [
      JSON.stringify([{ role: 'user', content: 'x' }]),
      conversation.model,
      JSON.stringify(options),
    ]);
  }
  conversation.options = options;
}

function transcript(messages: readonly ChatMessage[]): string {
  return messages.map((message) => `${message.role}: ${message.content}\n`).join('');
}

async function show(repl: Repl, what: string | undefined): Promise<void> {
  const { terminal, conversation } = repl;
  if (what === undefined) {
    terminal.tell(HELP_SHOW);
    return;
  }
  if (what === 'messages') {
    terminal.tell(transcript(conversation.messages) || 'no messages yet\n');
    return;
  }
  const model = await modelDetails(repl, conversation.model);
  if (what === 'info') {
    terminal.tell(`${showText(model)}\n`);
    return;
  }
  if (!['license', 'parameters', 'system', 'template'].includes(what)) {
    throw new CommandError(`unknown command /show ${brief(what)}`, { hint: '/? show lists them' });
  }
  if (what === 'system' && conversation.system !== null) {
    terminal.tell(`${conversation.system}\n`);
    return;
  }
  if (what === 'parameters') {
    const own = Object.entries(conversation.options).map(
      ([name, value]) => `  ${name.padEnd(30)} ${JSON.stringify(value)}\n`,
    );
    terminal.tell(`model recommends:\n${showSection(model, 'parameters')}`);
    terminal.tell(own.length === 0 ? 'none were set here\n' : `set here:\n${own.join('')}`);
    return;
  }
  terminal.tell(showSection(model, what as Section));
}

async function load(repl: Repl, name: string): Promise<void> {
  const { terminal, conversation } = repl;
  const saved = savedConversation(name);
  const model = await modelDetails(repl, saved?.model ?? name);
  conversation.model = model.name;
  conversation.hasTemplate = model.chat_template !== null;
  conversation.messages = saved?.messages ?? [];
  conversation.system = saved?.system ?? null;
  conversation.options = saved?.options ?? {};
  repl.last = null;
  terminal.tell(saved === null ? `loaded model ${name}\n` : `loaded the conversation ${name} with ${model.name}\n`);
}
