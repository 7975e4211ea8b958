/** Model files under limits that spread them over several WebAssembly memories. */
import { TILE_TARGET_BYTES } from '../../plv8/src/format/tiles.ts';
import { MAX_MEMORY_BYTES } from '../../plv8/src/model/arena.ts';
import type { ModelConfig } from '../../plv8/src/model/config.ts';
import { readConfig } from '../../plv8/src/model/config.ts';
import type { MemoriesPlan } from '../../plv8/src/model/memories.ts';
import { planMemories } from '../../plv8/src/model/memories.ts';
import { Model } from '../../plv8/src/model/model.ts';
import type { WeightSource } from '../../plv8/src/model/source.ts';
import { planWeights } from '../../plv8/src/model/weights.ts';
import { modelPath } from '../golden/model-files.ts';
import { readGguf } from './gguf-source.ts';

export class SpreadModel {
  private readonly config: ModelConfig;
  private readonly source: WeightSource;

  /** `name` as `zoo/qwen2-tiny-f32`. */
  constructor(private readonly name: string) {
    const { architecture, hyperparameters, source } = readGguf(modelPath(`${name}.gguf`));
    this.source = source;
    this.config = readConfig(architecture, hyperparameters, source.tensors());
  }

  load(maxMemoryBytes = MAX_MEMORY_BYTES): Model {
    const { name } = this;
    return Model.load(this.config, this.source, { precision: 'auto', name, poll: () => undefined, maxMemoryBytes });
  }

  plan(maxMemoryBytes: number): MemoriesPlan {
    const tensors = this.source.tensors();
    const weights = planWeights(tensors, 'auto', TILE_TARGET_BYTES);
    return planMemories(this.name, this.config, tensors, weights, maxMemoryBytes);
  }

  /** Memories under a limit; Infinity where a layer alone is too large. */
  private count(limit: number): number {
    try {
      return this.plan(limit).memories.length;
    } catch {
      return Infinity;
    }
  }

  /** The smallest limits under which the model takes at most 4, 3 and 2 memories, but never one. */
  limits(): number[] {
    const limits = [4, 3, 2].map((most) => {
      let low = 0;
      let high = MAX_MEMORY_BYTES;
      while (low < high) {
        const middle = Math.floor((low + high) / 2);
        if (this.count(middle) <= most) high = middle;
        else low = middle + 1;
      }
      return low;
    });
    return [...new Set(limits)].filter((limit) => this.count(limit) > 1);
  }
}
