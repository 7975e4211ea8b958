import { query } from '../db.ts';

/**
 * Name of the role on whose behalf this call runs: SET ROLE's role if set, else the session user. Inside a SECURITY
 * DEFINER function `current_user` is the owner, and `role` still shows what the caller set.
 */
export function callerRole(): string {
  return String(query('select hartonomous._caller() as role')[0]!.role);
}

/** Whether the running transaction may write rows; false in read-only transactions and on a hot standby. */
export function mayWrite(): boolean {
  return query(`select current_setting('transaction_read_only') as read_only`)[0]?.read_only === 'off';
}
