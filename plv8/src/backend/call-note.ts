/**
 * Where every call has to be recorded (limit `recording` 1), one that is rolled back leaves no row: our host then writes a
 * line to the server's log. It says who, which model and how much, and has no text of anybody's.
 */
import { query, rollbackNote } from '../db.ts';

let id: number | null = null;
let facts: Record<string, string | number> = {};

function show(): void {
  id = rollbackNote(`hartonomous call rolled back ${JSON.stringify(facts)}`, id);
}

/** The call that runs now is to be noted. */
export function noteCall(role: string, model: string): void {
  id = null;
  const login = String(query('select session_user::text as login')[0]!.login);
  facts = { role, login, model, started: new Date().toISOString(), evaluated_tokens: 0 };
  show();
}

/** Another call begins; the line of the one before stays until its transaction ends. */
export function endNote(): void {
  id = null;
}

export function noteTokens(tokens: number): void {
  if (id === null) return;
  facts.evaluated_tokens = Number(facts.evaluated_tokens) + tokens;
  show();
}
