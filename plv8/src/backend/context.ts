/**
 * Where PL/V8 has contexts (later than 3.2.2), a caller chooses by `plv8.context` in which global object of the owner's isolate
 * a function runs. No function can pin it: PL/V8 refuses to set it, to whatever value, while JavaScript runs, and then nobody's
 * JavaScript could call ours. So the bundle is loaded into none but the one without a name. Our own host disregards the choice.
 */
import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { quoted } from '../format/visible-text.ts';

/** Names that are placeholders are not in pg_settings: nobody passes for our own host. */
const CHOSEN = `
select c.setting as name from pg_settings c
where c.name = 'plv8.context' and c.setting <> ''
  and not exists (select from pg_settings p where p.name = 'hartonomous_v8.portable' and p.setting = 'off')`;

/** Throws where the loader runs in a context that somebody has chosen. */
export function refuseContext(): void {
  const [row] = query(CHOSEN);
  if (row === undefined) return;
  raise(SQLSTATE.objectNotInPrerequisiteState, `hartonomous runs in no context, plv8.context is ${quoted(row.name)}`, {
    hint: 'reset plv8.context',
  });
}
