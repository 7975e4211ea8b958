/** Proof that a replay is the same computation as the recorded run. */
import { raise, SQLSTATE } from '../errors.ts';
import type { RecordedRun, RunModel } from './recorded-run.ts';

/** Most that a replayed logit may differ from the recorded one. */
const TOLERANCE = 1e-3;

/**
 * The difference between the replayed logit of a step's token and the recorded one; null where none was recorded. Throws
 * when it is over the tolerance, naming what is not as it was.
 */
export function proveReplay(run: RecordedRun, model: RunModel, step: number, logit: number): number | null {
  const recorded = run.logits[step] ?? null;
  if (recorded === null) return null;
  const difference = logit - recorded;
  if (Math.abs(difference) <= TOLERANCE) return difference;
  const heldAs = model.entry.model.precision;
  const reason =
    run.heldAs !== null && run.heldAs !== heldAs
      ? `weights were held as ${run.heldAs}, now as ${heldAs}`
      : run.buildId !== null && run.buildId !== model.buildId
        ? `build was ${run.buildId}, now ${model.buildId}`
        : `digest, precision and build are those of the run, so its recorded tokens or the model's rows were changed`;
  raise(
    SQLSTATE.objectNotInPrerequisiteState,
    `replay of run ${run.id} gives token ${run.outputIds[step]} of step ${step} the logit ${logit.toFixed(4)}, recorded is ${recorded.toFixed(4)}`,
    { detail: reason, hint: reason },
  );
}
