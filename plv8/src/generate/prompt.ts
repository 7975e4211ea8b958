/** From what the caller wrote to prompt ids: template, system message, tools. */
import { poll } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { ChatMessage } from '../tokenizer/chat-template.ts';
import { renderChat } from '../tokenizer/chat-template.ts';
import { namedTemplate, TEMPLATE_NAMES } from '../tokenizer/named-templates.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { ModelDescription } from '../backend/catalog.ts';
import type { GenerateOptions } from '../sampling/options.ts';

/** A model as prompts need it: no weights. */
export interface PromptModel {
  description: ModelDescription;
  tokenizer: Tokenizer;
}

function tokenString(tokenizer: Tokenizer, id: number | null): string {
  return id === null ? '' : tokenizer.tokenText(id);
}

/** The Jinja text that option `template` names or is, else the model's own; null where there is none. */
function templateOf(model: PromptModel, options: GenerateOptions): string | null {
  const { template } = options;
  if (template === null) return model.description.chatTemplate;
  return (
    namedTemplate(template) ??
    (template.includes('{')
      ? template
      : raise(SQLSTATE.invalidParameterValue, `option template names ${JSON.stringify(template)}, which is not known`, {
          hint: `templates: ${TEMPLATE_NAMES.join(', ')}, or Jinja text`,
        }))
  );
}

function render(template: string, model: PromptModel, messages: ChatMessage[], options: GenerateOptions): string {
  const { tokenizer, description } = model;
  const system = options.system ?? description.systemPrompt;
  const hasSystem = messages.some((message) => message.role === 'system');
  return renderChat(template, {
    messages: system === null || hasSystem ? messages : [{ role: 'system', content: system }, ...messages],
    addGenerationPrompt: options.addGenerationPrompt,
    bosToken: tokenString(tokenizer, tokenizer.bosId),
    eosToken: tokenString(tokenizer, tokenizer.eosId),
    ...(options.tools === null ? {} : { tools: options.tools }),
    poll,
  });
}

/** Prompt text of a conversation. Throws objectNotInPrerequisiteState for a model without a template. */
export function renderMessages(model: PromptModel, messages: ChatMessage[], options: GenerateOptions): string {
  const template =
    templateOf(model, options) ??
    raise(SQLSTATE.objectNotInPrerequisiteState, `model ${model.description.name} has no chat template`, {
      hint: `give one with option template (${TEMPLATE_NAMES.join(', ')}, or Jinja text), or use generate, which continues the text`,
    });
  return render(template, model, messages, options);
}

/** Ids of rendered template text: its special tokens are tokens, and a BOS it already wrote is not added again. */
function encodeRendered(tokenizer: Tokenizer, text: string): number[] {
  const ids = tokenizer.encode(text, { addSpecial: false, parseSpecial: true, poll });
  if (tokenizer.addBos && tokenizer.bosId !== null && ids[0] !== tokenizer.bosId) ids.unshift(tokenizer.bosId);
  return ids;
}

/** Ids of a conversation through the template. */
export function chatIds(model: PromptModel, messages: ChatMessage[], options: GenerateOptions): number[] {
  return encodeRendered(model.tokenizer, renderMessages(model, messages, options));
}

/** Whether `promptIds` makes the prompt a user turn. */
export function isTurn(model: PromptModel, options: GenerateOptions): boolean {
  return !options.raw && templateOf(model, options) !== null;
}

/**
 * Ids of one user turn, or of the text itself where that is wanted or the model has no template; `begun` is how the answer
 * begins.
 */
export function promptIds(model: PromptModel, prompt: string, options: GenerateOptions, begun = ''): number[] {
  const { tokenizer } = model;
  const template = options.raw ? null : templateOf(model, options);
  if (template === null) return tokenizer.encode(prompt + begun, { addSpecial: true, parseSpecial: true, poll });
  const turn = render(template, model, [{ role: 'user', content: prompt }], options);
  return encodeRendered(tokenizer, turn + begun);
}
