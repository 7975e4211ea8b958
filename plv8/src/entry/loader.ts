/** What the loader of the bundle calls, and no function in SQL. */
export { counted } from '../backend/call-errors.ts';
export { refuseContext } from '../backend/context.ts';
