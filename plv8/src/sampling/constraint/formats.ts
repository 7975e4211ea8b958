/** Formats of strings (JSON Schema's own and OpenAPI's): the texts that are written for each, as a pattern. */

/** Many calendars, as Python's, have no year 0. */
const YEAR = '(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])';
const DATE = `${YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))`;
const CLOCK = '(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]';
const ZONE = '(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])';
/** A label without `--`, which begins an encoded one. */
const LABEL = '[a-z0-9](?:-?[a-z0-9]){0,15}';
const HOSTNAME = `${LABEL}(?:\\.${LABEL}){0,4}`;
const OCTET = '(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';
const IPV4 = `${OCTET}(?:\\.${OCTET}){3}`;
const GROUP = '[0-9a-f]{1,4}';
const PATH = "(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*)";
const URI = `[a-z][a-z0-9+.-]{0,15}://${HOSTNAME}(?::[1-9][0-9]{0,3})?${PATH}*(?:\\?[A-Za-z0-9._~=&-]*)?(?:#[A-Za-z0-9._~-]*)?`;
const BASE64 = '(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?';
const POINTER = '(?:/(?:[A-Za-z0-9_. -]|~[01])*)*';
const NAME = '[a-z0-9](?:[a-z0-9_+-]{0,30}[a-z0-9])?';

/** Patterns of whole texts: a part of what each format allows, and of nothing else. */
const PATTERNS: Readonly<Record<string, string>> = {
  date: DATE,
  time: `${CLOCK}(?:\\.[0-9]{1,6})?${ZONE}`,
  'date-time': `${DATE}T${CLOCK}(?:\\.[0-9]{1,6})?${ZONE}`,
  duration:
    'P(?:[0-9]{1,4}W|(?:[0-9]{1,4}Y)(?:[0-9]{1,4}M)?(?:[0-9]{1,4}D)?|(?:[0-9]{1,4}M)(?:[0-9]{1,4}D)?|[0-9]{1,4}D|(?:[0-9]{1,4}D)?T(?:[0-9]{1,4}H(?:[0-9]{1,4}M)?(?:[0-9]{1,4}S)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S))',
  email: `${NAME}(?:\\.${NAME}){0,3}@${LABEL}(?:\\.${LABEL}){0,3}\\.[a-z]{2,10}`,
  hostname: HOSTNAME,
  ipv4: IPV4,
  ipv6: `(?:(?:${GROUP}:){7}${GROUP}|(?:${GROUP}:){1,6}:${GROUP}|::(?:${GROUP}:){0,5}${GROUP}|::)`,
  uri: URI,
  'uri-reference': `(?:${URI}|${PATH}+)`,
  'uri-template': `${URI}`,
  uuid: '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}',
  'json-pointer': POINTER,
  'relative-json-pointer': `(?:0|[1-9][0-9]{0,2})(?:#|${POINTER})`,
  regex: '[A-Za-z0-9_ -]*',
  byte: BASE64,
  base64: BASE64,
};

/** Formats whose names for all of Unicode are written in ASCII here. */
const ALIASES: Readonly<Record<string, string>> = {
  'idn-email': 'email',
  'idn-hostname': 'hostname',
  iri: 'uri',
  'iri-reference': 'uri-reference',
  'ip-address': 'ipv4',
  'host-name': 'hostname',
};

/** OpenAPI's names that say nothing about a text. */
const SILENT: ReadonlySet<string> = new Set(['password', 'binary', 'float', 'double', 'int32', 'int64']);

/** Bounds of OpenAPI's formats of numbers, as far as a double keeps integers apart. */
export const NUMBER_FORMATS: Readonly<Record<string, readonly [number, number]>> = {
  int32: [-2147483648, 2147483647],
  int64: [-9007199254740991, 9007199254740991],
};

/** Pattern of the texts of a format; null for one that says nothing about them, undefined for one that nobody defines. */
export function formatPattern(format: string): string | null | undefined {
  const name = Object.hasOwn(ALIASES, format) ? ALIASES[format]! : format;
  if (Object.hasOwn(PATTERNS, name)) return `^(?:${PATTERNS[name]!})$`;
  return SILENT.has(name) ? null : undefined;
}

const ENCODINGS: Readonly<Record<string, string>> = {
  base64: BASE64,
  base64url: '(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?',
  base32: '(?:[A-Z2-7]{8})*',
  base16: '(?:[0-9A-F]{2})*',
};

/** Pattern of the texts of a contentEncoding; undefined for one that says nothing about them. */
export function encodingPattern(encoding: string): string | undefined {
  return Object.hasOwn(ENCODINGS, encoding) ? `^(?:${ENCODINGS[encoding]!})$` : undefined;
}
