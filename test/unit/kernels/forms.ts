/** Every form of an integer matrix, by the type that has it. */
import type { Form } from '../../../plv8/src/kernels/form.ts';

const plain = { offset: 0, hasMinimums: false, scaleCols: 32 } as const;

export const FORMS: Record<string, Form> = {
  'rounded floats': { ...plain, bits: 8, scales: 'floats' },
  Q3_K: { ...plain, bits: 8, scales: 'floats', scaleCols: 16 },
  Q8_0: { ...plain, bits: 8, scales: 'halves' },
  Q4_0: { ...plain, bits: 4, scales: 'halves', offset: 8 },
  Q4_1: { ...plain, bits: 4, scales: 'halves', hasMinimums: true },
  Q4_K: { ...plain, bits: 4, scales: 'super', hasMinimums: true },
  Q5_0: { ...plain, bits: 5, scales: 'halves', offset: 16 },
  Q5_1: { ...plain, bits: 5, scales: 'halves', hasMinimums: true },
  Q5_K: { ...plain, bits: 5, scales: 'super', hasMinimums: true },
  Q6_K: { ...plain, bits: 6, scales: 'super', scaleCols: 16, offset: 32 },
};

/** How 5 and 6 bits are held where the host has no kernels of its own. (Q5_0 becomes as Q8_0.) */
export const WIDE_FORMS: Record<string, Form> = {
  'wide Q5_1': { ...FORMS.Q5_1!, bits: 8 },
  'wide Q5_K': { ...FORMS.Q5_K!, bits: 8 },
  'wide Q6_K': { ...FORMS.Q6_K!, bits: 8, offset: 0 },
};
