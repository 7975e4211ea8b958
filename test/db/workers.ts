/** How many test files run at a time, each with a PostgreSQL that no other file uses meanwhile. */
import { availableParallelism } from 'node:os';

const MOST = 2; // what the memory of a small machine bears: a model and a server each

/** One where TEST_DATABASE_URL names the one server to use. */
export const WORKERS = process.env.TEST_DATABASE_URL ? 1 : Math.min(MOST, availableParallelism());
