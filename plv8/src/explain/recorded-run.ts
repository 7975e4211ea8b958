/** A recorded run as its rows say, and the model that can compute it again. */
import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { parseOptions } from '../sampling/options.ts';
import type { UsedModel } from '../backend/registry.ts';
import { currentCatalog, useModel } from '../backend/registry.ts';
import type { RecordedConstraint } from '../generate/record.ts';
import { buildIdOf, constraintOf } from '../generate/record.ts';
import type { SamplerOptions } from '../sampling/sampler.ts';

export interface RecordedRun {
  id: number;
  modelName: string;
  /** SHA-256 of the model's file, hex. */
  digest: string;
  promptIds: number[];
  outputIds: number[];
  /** Logit of each output token as recorded; null where none was. */
  logits: (number | null)[];
  sampler: SamplerOptions;
  constraint: RecordedConstraint | null;
  precision: 'auto' | 'f32' | 'q8';
  heldAs: string | null;
  buildId: string | null;
}

/** Read a run that the caller may see. Throws undefinedObject for others, existing or not. */
export function readRun(id: number): RecordedRun {
  const row = query(
    `select model_name, encode(model_digest, 'hex') as digest, array_to_json(prompt_ids) as prompt_ids,
       array_to_json(output_ids) as output_ids, sampling::json as sampling, held_as, build_id, erased_at::text as erased_at,
       (select array_agg(t.logit::float8 order by t.position) from hartonomous.run_tokens t
        where t.run_id = r.id and not t.is_prompt) as logits
     from hartonomous.runs r where id = $1::bigint and hartonomous._sees_runs_of(caller)`,
    [id],
  )[0];
  if (row === undefined) {
    raise(SQLSTATE.undefinedObject, `run ${id} does not exist`, { hint: 'runs you may see: hartonomous.run_list' });
  }
  if (row.erased_at !== null) {
    raise(SQLSTATE.objectNotInPrerequisiteState, `run ${id} was erased at ${String(row.erased_at)}`);
  }
  const { constraint, ...settings } = row.sampling as Record<string, unknown>;
  const { sampler, precision } = parseOptions(settings);
  return {
    id,
    modelName: String(row.model_name),
    digest: String(row.digest),
    promptIds: Array.from(row.prompt_ids as number[]),
    outputIds: Array.from(row.output_ids as number[]),
    logits: (row.logits as (number | null)[] | null) ?? [],
    sampler,
    constraint: constraintOf(constraint),
    precision,
    heldAs: row.held_as === null ? null : String(row.held_as),
    buildId: row.build_id === null ? null : String(row.build_id),
  };
}

export interface RunModel extends UsedModel {
  buildId: string | null;
}

const short = (digest: string): string => digest.slice(0, 12);

/** The model of a run: that of the same digest, whatever its name is now. Throws naming both digests when it is gone. */
export function modelOf(run: RecordedRun): RunModel {
  const catalog = currentCatalog();
  const row =
    catalog.models.find((model) => model.digest === run.digest && model.name === run.modelName) ??
    catalog.models.find((model) => model.digest === run.digest);
  if (row === undefined) {
    const namesake = catalog.models.find((model) => model.name === run.modelName);
    const now =
      namesake === undefined
        ? 'no model here has that digest'
        : `${run.modelName} has digest ${short(namesake.digest)} now`;
    raise(
      SQLSTATE.undefinedObject,
      `run ${run.id} was written by model ${run.modelName} with digest ${short(run.digest)}, ${now}`,
      { hint: 'ingest that file again to explain the run' },
    );
  }
  return { ...useModel(catalog, row.name, run.precision), buildId: buildIdOf(catalog) };
}
