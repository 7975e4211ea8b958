/** What `serve` has done, for Prometheus: requests, answers, tokens and times since it started, and what waits now. */
import type { Context, Next } from 'hono';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { AnswerFacts } from '../answer/backend.ts';

const NS = 1e-9;
/** Of what is counted by path; all other paths, of which anybody may think up any number, count as one. */
const ENDPOINTS = new Set([
  '/',
  '/metrics',
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/embeddings',
  '/v1/models',
  '/v1/models/NAME',
  '/api/generate',
  '/api/chat',
  '/api/embed',
  '/api/embeddings',
  '/api/tags',
  '/api/show',
  '/api/ps',
  '/api/version',
]);
/** Seconds; a first token may wait for a long prompt, a whole answer for hundreds of tokens. */
const ANSWER_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const TOKEN_BUCKETS = [0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1];

/** How many there are at this moment. */
export interface PoolState {
  running: number;
  waiting: number;
  backends: number;
}

/** An answer that has been asked for; times count from then on, so waiting for a backend is among them. */
export interface AnswerTimer {
  firstToken(): void;
  done(facts: AnswerFacts): void;
}

export class Metrics {
  private readonly registry = new Registry();
  private readonly requests = this.counter('http_requests', 'requests by endpoint and status', ['endpoint', 'code']);
  private readonly answers = this.counter('answers', 'answers by what ended them', ['model', 'done_reason']);
  private readonly promptTokens = this.counter('prompt_tokens', 'tokens of prompts', ['model']);
  private readonly cachedTokens = this.counter('cached_prompt_tokens', 'tokens of prompts that a cache had', ['model']);
  private readonly generatedTokens = this.counter('generated_tokens', 'tokens that were generated', ['model']);
  private readonly firstTokens = this.histogram('first_token', 'from a request to its first token', ANSWER_BUCKETS);
  private readonly nextTokens = this.histogram(
    'next_token',
    'mean of each answer from a token to the next',
    TOKEN_BUCKETS,
  );
  private readonly wholeAnswers = this.histogram('answer', 'from a request to the end of its answer', ANSWER_BUCKETS);

  constructor(state: () => PoolState) {
    const gauge = (name: keyof PoolState, help: string): void => {
      const registers = [this.registry];
      new Gauge({
        name: `hartonomous_${name}`,
        help,
        registers,
        collect() {
          this.set(state()[name]);
        },
      });
    };
    gauge('running', 'requests that a backend works for');
    gauge('waiting', 'requests that wait for a backend');
    gauge('backends', 'connections to the database that answer');
  }

  private counter<T extends string>(name: string, help: string, labelNames: readonly T[]): Counter<T> {
    return new Counter({ name: `hartonomous_${name}_total`, help, labelNames, registers: [this.registry] });
  }

  private histogram(name: string, help: string, buckets: number[]): Histogram<'model'> {
    const labelNames = ['model'] as const;
    return new Histogram({
      name: `hartonomous_${name}_seconds`,
      help: `seconds ${help}`,
      labelNames,
      buckets,
      registers: [this.registry],
    });
  }

  /** Count a request by its endpoint and status. */
  readonly count = async (c: Context, next: Next): Promise<void> => {
    await next();
    const path = c.req.path.replace(/^\/v1\/models\/.+/, '/v1/models/NAME');
    this.requests.inc({ endpoint: ENDPOINTS.has(path) ? path : 'other', code: c.res.status });
  };

  startAnswer(): AnswerTimer {
    const started = performance.now();
    let first: number | null = null;
    const elapsed = (): number => (performance.now() - started) / 1000;
    return {
      firstToken: () => (first ??= elapsed()),
      done: (facts) => {
        const { model, done_reason, prompt_tokens, prompt_eval_count, eval_count, eval_duration } = facts;
        this.answers.inc({ model, done_reason });
        this.promptTokens.inc({ model }, prompt_tokens);
        this.cachedTokens.inc({ model }, prompt_tokens - prompt_eval_count);
        this.generatedTokens.inc({ model }, eval_count);
        if (first !== null) this.firstTokens.observe({ model }, first);
        if (eval_count > 0) this.nextTokens.observe({ model }, (eval_duration * NS) / eval_count);
        this.wholeAnswers.observe({ model }, elapsed());
      },
    };
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }
}
