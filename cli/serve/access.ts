/** Who may ask over HTTP: by tokens, each of which acts as a role of the database, and from pages of which origins. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Context, Next } from 'hono';
import type pg from 'pg';
import { CommandError } from '../errors.ts';
import { HttpError } from './errors.ts';

export interface Token {
  token: string;
  /** Role that its requests act as; null for the one that connected. */
  role: string | null;
}

/** Tokens of a file: a role and its token a line. Throws naming the line that is none. */
export async function readTokens(file: string): Promise<Token[]> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new CommandError(`tokens ${file} cannot be read`, { cause, exitCode: 2 });
  });
  const tokens = text.split('\n').flatMap((line, i): Token[] => {
    if (line.trim() === '' || line.startsWith('#')) return [];
    const [role, token, ...more] = line.trim().split(/\s+/);
    if (token !== undefined && more.length === 0) return [{ role: role!, token }];
    throw new CommandError(`line ${i + 1} of ${file} is not a role and its token`, { exitCode: 2 });
  });
  if (tokens.length === 0) throw new CommandError(`${file} has no tokens`, { exitCode: 2 });
  if (new Set(tokens.map(({ token }) => token)).size < tokens.length)
    throw new CommandError(`${file} gives a token to two roles`, { exitCode: 2 });
  return tokens;
}

/** Throws where the role that connects may not act as one of a token. */
export async function checkRoles(client: pg.Client, tokens: readonly Token[]): Promise<void> {
  const { rows } = await client.query<{ role: string; login: string; there: boolean; may: boolean | null }>(
    `select r.role, session_user::text as login, p.oid is not null as there, pg_has_role(session_user, p.oid, 'member') as may
     from unnest($1::text[]) as r (role) left join pg_catalog.pg_roles p on p.rolname = r.role`,
    [tokens.flatMap(({ role }) => role ?? [])],
  );
  for (const { role, login, there, may } of rows) {
    if (!there) throw new CommandError(`role ${role} of a token does not exist`);
    if (may !== true)
      throw new CommandError(`role ${login} may not act as ${role}`, { hint: `grant ${role} to ${login}` });
  }
}

function sameToken(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

/** Role that a request acts as: that of the token it brings. Throws 401 where it brings none of them. */
export function roleOf(c: Context, tokens: readonly Token[]): string | null {
  if (tokens.length === 0) return null;
  const given = /^Bearer (.+)$/i.exec(c.req.header('Authorization') ?? '')?.[1];
  // All are compared, so that the time tells nothing.
  const [found] = tokens.filter(({ token }) => given !== undefined && sameToken(given, token));
  if (found !== undefined) return found.role;
  c.header('WWW-Authenticate', 'Bearer');
  throw new HttpError(401, given === undefined ? 'a bearer token is required' : 'the bearer token is wrong', {
    code: 'invalid_api_key',
  });
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host.includes(':') && !host.startsWith('[') ? `[${host}]` : host);
}

/** Whether an origin is this machine, or fits one of the patterns, in which * stands for any characters. */
function isAllowed(origin: string, patterns: readonly string[]): boolean {
  if (/^https?:\/\//.test(origin) && LOOPBACK.test(origin.replace(/^https?:\/\//, ''))) return true;
  return patterns.some((pattern) => {
    const parts = pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    return new RegExp(`^${parts.join('.*')}$`, 'i').test(origin);
  });
}

/**
 * A page of the web in this machine's browser may send requests here too. One of an origin that is not allowed is
 * refused, and on a loopback address also one that calls it by another name (a name that was pointed here).
 */
export function refuseForeignPages(host: string, origins: readonly string[]) {
  return async (c: Context, next: Next): Promise<void> => {
    const origin = c.req.header('Origin');
    if (origin !== undefined && !isAllowed(origin, origins)) {
      throw new HttpError(403, 'requests from pages of other origins are refused');
    }
    if (isLoopback(host) && !LOOPBACK.test(c.req.header('Host') ?? 'localhost')) {
      throw new HttpError(403, 'this address is called localhost, the request names another host');
    }
    await next();
  };
}
