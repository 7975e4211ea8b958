/** generate of many prompts for a backend that runs no JavaScript. */
import type { ModelDescription } from '../../../backend/catalog.ts';
import { useDescription } from '../../../backend/registry.ts';
import { optionsOf } from '../../../format/json-arguments.ts';
import { writeJson } from '../../../format/ordered-json.ts';
import type { GenerateOptions } from '../../../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../../../sampling/options.ts';
import { batchOptions, withSeed } from '../../batch.ts';
import { isRecordingWanted } from '../../record.ts';
import { AnsweredPrompts } from '../answered-prompts.ts';
import { headOf } from '../conversing.ts';
import type { LastMessage, ManyRequest, Part } from '../messages.ts';
import { lengthOfTexts } from '../messages.ts';
import { isTakenPlain } from '../taken.ts';
import type { CallMade } from './served-call.ts';
import { ServedCall } from './served-call.ts';
import { rowsResult } from './values.ts';

export class ServedPrompts extends ServedCall {
  private readonly answered = new AnsweredPrompts();

  private constructor(
    made: CallMade,
    readonly request: ManyRequest,
    private readonly model: ModelDescription,
    private readonly options: Record<string, unknown>,
    /** Of each prompt. */
    private readonly settings: readonly GenerateOptions[],
  ) {
    super(made);
  }

  static of(
    made: CallMade,
    prompts: readonly (string | null)[],
    name: string | null,
    json: string | null,
  ): ServedCall | null {
    const { call, catalog } = made;
    const { onError, options: given } = batchOptions(optionsOf(json));
    const model = useDescription(catalog, name);
    const options = parseOptions(given, model.defaultOptions);
    if (!isTakenPlain(lengthOfTexts(prompts), given)(options, catalog) || ignoredOptions(given).length > 0) return null;
    const settings = prompts.map((prompt) => (prompt === null ? options : withSeed(options, given, model)));
    const head = headOf(catalog, model, options.precision, writeJson(given));
    const seeds = settings.map(({ sampler }) => sampler.seed);
    const wantsRun = isRecordingWanted(options.record, 'generate', catalog, () => call.record) && call.writes;
    return new ServedPrompts(made, { ...head, prompts, seeds, onError, wantsRun }, model, given, settings);
  }

  override see(part: Part): void {
    this.answered.see(part);
  }

  protected resultOf(last: LastMessage): string[] | null {
    if (!('answered' in last)) return null;
    const { caller, model, options, settings, session } = this;
    const { catalog, startedAt } = this.made;
    const rows = this.answered.finish({ catalog, caller, model, options, startedAt }, settings, session);
    return rowsResult(rows.map(({ ord, text, done_reason, eval_count }) => [ord, text, done_reason, eval_count]));
  }
}
