/** Names of GGUF's general.file_type: how the greater part of a file is quantised, as llama.cpp's tools call it. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0, 'F32'],
  [1, 'F16'],
  [2, 'Q4_0'],
  [3, 'Q4_1'],
  [7, 'Q8_0'],
  [8, 'Q5_0'],
  [9, 'Q5_1'],
  [10, 'Q2_K'],
  [11, 'Q3_K_S'],
  [12, 'Q3_K_M'],
  [13, 'Q3_K_L'],
  [14, 'Q4_K_S'],
  [15, 'Q4_K_M'],
  [16, 'Q5_K_S'],
  [17, 'Q5_K_M'],
  [18, 'Q6_K'],
  [21, 'Q2_K_S'],
  [25, 'IQ4_NL'],
  [30, 'IQ4_XS'],
  [32, 'BF16'],
]);

/** The file's own type, as `Q4_K_M`; null where it does not say, or names one that is not known here. */
export function fileTypeName(metadata: Readonly<Record<string, unknown>>): string | null {
  const type = metadata['general.file_type'];
  return typeof type === 'number' ? (NAMES.get(type) ?? null) : null;
}
