/** Whose requests go first, of those that an engine took together. */
import { enginePriority, readLimitsOf } from '../../backend/limits.ts';
import type { EngineRequest, SessionCall } from './messages.ts';

export class AskedPriorities {
  private isLocked = false;

  /** That of a call whose limits cannot be read is 0, and so is that of every later one: an engine waits for a lock once. */
  of(request: EngineRequest | SessionCall): number {
    if ('limits' in request) return enginePriority(new Map(request.limits));
    if (this.isLocked) return 0;
    try {
      return enginePriority(readLimitsOf(request.role, request.login).limits);
    } catch {
      this.isLocked = true;
      return 0;
    }
  }
}
