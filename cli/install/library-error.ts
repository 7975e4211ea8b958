/** Errors of a server that cannot load an extension's library, told apart, with the cure. */
import pg from 'pg';

const CURE =
  'on the server: run host/setup.sh again, which builds the extension for the PostgreSQL and the libraries there';

/** What is wrong with an extension's library, in one line, and what to do; null for every other error. */
export function libraryError(error: unknown): { message: string; hint: string } | null {
  return error instanceof pg.DatabaseError ? libraryFault(error.message, error.detail) : null;
}

/** The same of a message and its detail, as a server writes them also into its log. */
export function libraryFault(message: string, detail: string | undefined): { message: string; hint: string } | null {
  const library = /"([^"]*\.so)"|(?:^|[ "])(\/[^ ":]*\.so)/.exec(message)?.slice(1).find(Boolean) ?? 'an extension';
  const other = /^incompatible library/.test(message)
    ? /Server is version (\S+), library is version (\S+?)\.?$/.exec(detail ?? '')
    : null;
  if (other !== null)
    return { message: `${library} was built for PostgreSQL ${other[2]}, the server is ${other[1]}`, hint: CURE };
  if (!message.startsWith('could not load library')) return null;
  const symbol = /undefined symbol: (\S+)/.exec(message)?.[1];
  if (symbol !== undefined)
    return {
      message: `${library} was built for another major version of PostgreSQL or a newer minor one: the server has no ${symbol}`,
      hint: CURE,
    };
  const gone = /(lib\S+\.so\S*): cannot open shared object file/.exec(message)?.[1];
  if (gone !== undefined)
    return { message: `${library} needs ${gone}, which this system does not have (any more)`, hint: CURE };
  return null;
}
