import { describe, expect, it } from 'vitest';
import { HartonomousError, SQLSTATE } from '../../../../plv8/src/errors.ts';
import { failure, receivedError } from '../../../../plv8/src/generate/engine/messages.ts';

describe('what a caller hears of an error', () => {
  it('is the error itself where the call is at fault', () => {
    const error = new HartonomousError(SQLSTATE.invalidParameterValue, 'wrong', { hint: 'say it otherwise' });
    const message = failure(error);
    if (!('error' in message)) throw new Error('it hears of no error');
    expect(receivedError(message.error)).toMatchObject({
      sqlerrcode: SQLSTATE.invalidParameterValue,
      message: 'wrong',
      hint: 'say it otherwise',
    });
  });

  it('is that it has to compute itself where the engine lacks memory, or fails by a fault that is none of ours', () => {
    const error = new HartonomousError(SQLSTATE.outOfMemory, 'context of 32 tokens needs 64 bytes more');
    expect(failure(error)).toEqual({ unseen: true });
    expect(failure(new RangeError('a fault'))).toEqual({ unseen: true });
  });
});
