/** The Vercel AI SDK against `serve` with models tiny and bert: node ai-sdk.mjs URL CALLER, which is the model that calls tools. */
import assert from 'node:assert/strict';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embed, generateText, Output, streamText, tool } from 'ai';
import { z } from 'zod';

const GREETING = 'Hello! How can I help you?';
const provider = createOpenAICompatible({
  name: 'hartonomous',
  baseURL: `${process.argv[2]}/v1`,
  supportsStructuredOutputs: true,
  includeUsage: true,
});
const ask = { model: provider('tiny'), prompt: 'hello', temperature: 0, maxRetries: 0 };
const calling = { ...ask, model: provider(process.argv[3]) };
const tokens = ({ inputTokens, outputTokens }) => [inputTokens, outputTokens];

const whole = await generateText(ask);
assert.equal(whole.text, GREETING);
assert.deepEqual(tokens(whole.usage), [12, 8]);

const stream = streamText(ask);
let streamed = '';
for await (const piece of stream.textStream) streamed += piece;
assert.equal(streamed, GREETING);
assert.deepEqual(tokens(await stream.usage), [12, 8]);

const schema = z.object({ reasoning: z.enum(['because', 'since']), answer: z.enum(['yes', 'no']) });
const { output, text } = await generateText({ ...calling, output: Output.object({ schema }) });
assert.deepEqual(Object.keys(output), ['reasoning', 'answer']);
assert.match(text, /^\{"reasoning"/);

const weather = tool({
  description: 'Weather of a city',
  inputSchema: z.object({ city: z.enum(['Oslo', 'Rome']), days: z.literal([1, 2]) }),
  execute: ({ city, days }) => `${city} ${days}`,
});
const tools = { weather };
const forced = await generateText({ ...calling, tools, toolChoice: 'required' });
assert.equal(forced.finishReason, 'tool-calls');
assert.match(forced.toolResults[0].output, /^(Oslo|Rome) [12]$/);
const chosen = streamText({ ...calling, tools, toolChoice: { type: 'tool', toolName: 'weather' } });
for await (const part of chosen.fullStream) assert.notEqual(part.type, 'error');
const results = await chosen.toolResults;
assert.equal(results.length, 1);
assert.match(results[0].output, /^(Oslo|Rome) [12]$/);

const { embedding, usage } = await embed({ model: provider.embeddingModel('bert'), value: 'hello', maxRetries: 0 });
assert.equal(embedding.length, 64);
assert.equal(usage.tokens, 3);

await assert.rejects(generateText({ ...ask, model: provider('nobody') }), /nobody/);
