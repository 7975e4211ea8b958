/** From what the caller wrote to prompt ids: template, system message, tools. */
import { poll } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { ChatMessage } from '../tokenizer/chat-template.ts';
import { renderChat } from '../tokenizer/chat-template.ts';
import { joinTexts, Text } from '../tokenizer/jinja/text.ts';
import { namedTemplate, TEMPLATE_NAMES } from '../tokenizer/named-templates.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { ModelDescription } from '../backend/catalog.ts';
import type { GenerateOptions } from '../sampling/options.ts';
import type { ThinkingFamily } from '../format/thinking-families.ts';
import { thinkingFamily } from '../format/thinking-families.ts';
import type { Prompt } from './prompt-parts.ts';
import { plainPrompt, renderedPrompt } from './prompt-parts.ts';
import { messagesWithTools } from './tool-calling.ts';
import type { FindAnswer } from './written-answers.ts';
import { ownAnswers, writtenSpans } from './written-answers.ts';
import { quoted } from '../format/visible-text.ts';

/** A model as prompts need it: no weights. */
export interface PromptModel {
  description: ModelDescription;
  tokenizer: Tokenizer;
}

function tokenString(tokenizer: Tokenizer, id: number | null): string {
  return id === null ? '' : tokenizer.tokenText(id);
}

/** The Jinja text that option `template` names or is, else the model's own; null where there is none. */
export function templateOf(model: PromptModel, options: GenerateOptions): string | null {
  const { template } = options;
  if (template === null) return model.description.chatTemplate;
  return (
    namedTemplate(template) ??
    (template.includes('{')
      ? template
      : raise(SQLSTATE.invalidParameterValue, `option template names ${quoted(template)}, which is not known`, {
          hint: `templates: ${TEMPLATE_NAMES.join(', ')}, or Jinja text`,
        }))
  );
}

/**
 * The markers between which this model thinks; null where it does not, or its answer is not split: raw text, or one that
 * has to be something. Throws featureNotSupported where it is to think and its template knows nothing of it.
 */
export function thinkingOf(model: PromptModel, options: GenerateOptions): ThinkingFamily | null {
  const template = options.raw ? null : templateOf(model, options);
  const family = template === null ? null : thinkingFamily(template);
  if (family === null && options.think !== null && options.think !== false) {
    raise(
      SQLSTATE.featureNotSupported,
      `model ${model.description.name} does not think: its template has no marks for it`,
      {
        hint: 'leave out option think, enable_thinking or reasoning_effort',
      },
    );
  }
  return options.constraint === null || options.constraint.kind === 'tool_call' ? family : null;
}

function render(template: string, model: PromptModel, messages: ChatMessage[], options: GenerateOptions): Text {
  const { tokenizer, description } = model;
  const system = options.system ?? description.systemPrompt;
  const hasSystem = messages.some((message) => message.role === 'system');
  const all = system === null || hasSystem ? messages : [{ role: 'system', content: system }, ...messages];
  return renderChat(template, {
    messages: options.tools === null ? all : messagesWithTools(template, all, options.tools),
    addGenerationPrompt: options.addGenerationPrompt,
    bosToken: tokenString(tokenizer, tokenizer.bosId),
    eosToken: tokenString(tokenizer, tokenizer.eosId),
    ...(options.tools === null ? {} : { tools: options.tools }),
    variables: options.templateVariables,
    poll,
  });
}

/** Prompt text of a conversation. Throws objectNotInPrerequisiteState for a model without a template. */
export function renderMessages(model: PromptModel, messages: ChatMessage[], options: GenerateOptions): Text {
  const template =
    templateOf(model, options) ??
    raise(SQLSTATE.objectNotInPrerequisiteState, `model ${model.description.name} has no chat template`, {
      hint: `give one with option template (${TEMPLATE_NAMES.join(', ')}, or Jinja text), or use generate, which continues the text`,
    });
  return render(template, model, messages, options);
}

/**
 * Ids of rendered template text. Special tokens are read in what the template itself wrote, and in the caller's text where
 * option parse_special asks for it; answers that this model wrote are the ids that it wrote; a BOS that is there already is
 * not added again.
 */
function encodeRendered({ tokenizer }: PromptModel, text: Text, options: GenerateOptions, find: FindAnswer): number[] {
  const answers = options.parseSpecial ? [] : writtenSpans(text, find);
  const ids: number[] = [];
  let at = 0;
  const encodeTo = (end: number): void => {
    const part = text.slice(at, end);
    const content = options.parseSpecial ? [] : part.spans;
    const more = tokenizer.encode(part.chars, {
      addSpecial: false,
      parseSpecial: true,
      content,
      continues: at > 0,
      poll,
    });
    for (const id of more) ids.push(id);
  };
  for (const answer of answers) {
    encodeTo(answer.start);
    for (const id of answer.ids) ids.push(id);
    at = answer.end;
  }
  encodeTo(text.length);
  if (tokenizer.addBos && tokenizer.bosId !== null && ids[0] !== tokenizer.bosId) ids.unshift(tokenizer.bosId);
  return ids;
}

/** The messages by their places; -1 for the system message of the options. */
function givenMessages(messages: readonly ChatMessage[], { system }: GenerateOptions): Map<number, ChatMessage> {
  const given = new Map(messages.entries());
  return system === null ? given : new Map([[-1, { role: 'system', content: system }], ...given]);
}

/** A conversation through the template; `find` knows which of its answers were written by the model. */
export function chatPrompt(
  model: PromptModel,
  messages: ChatMessage[],
  options: GenerateOptions,
  find = ownAnswers(model.description.digest),
): Prompt {
  const text = renderMessages(model, messages, options);
  const ids = encodeRendered(model, text, options, find);
  return renderedPrompt(ids, text, givenMessages(messages, options), model.tokenizer);
}

/** Whether `turnPrompt` makes the prompt a user turn. */
export function isTurn(model: PromptModel, options: GenerateOptions): boolean {
  return !options.raw && templateOf(model, options) !== null;
}

/**
 * One user turn, or the text itself where that is wanted or the model has no template; `begun` is how the answer begins.
 * With option raw the text says what is a special token.
 */
export function turnPrompt(model: PromptModel, prompt: string, options: GenerateOptions, begun = ''): Prompt {
  const { tokenizer } = model;
  const template = options.raw ? null : templateOf(model, options);
  if (template === null) {
    const parseSpecial = options.raw || options.parseSpecial;
    return plainPrompt(tokenizer.encode(prompt + begun, { addSpecial: true, parseSpecial, poll }), tokenizer);
  }
  const messages = [{ role: 'user', content: prompt }];
  const text = joinTexts([render(template, model, messages, options), Text.content(begun)]);
  const ids = encodeRendered(model, text, options, ownAnswers(model.description.digest));
  return renderedPrompt(ids, text, givenMessages(messages, options), tokenizer);
}
