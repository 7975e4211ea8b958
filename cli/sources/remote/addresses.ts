/** Every public address this program knows, each of which a variable of the environment can replace. */

/** Host that Ollama's names mean when they name none; its store has a folder of this name. */
export const OLLAMA_HOST = 'registry.ollama.ai';

/** A registry that speaks Ollama's protocol; OLLAMA_REGISTRY replaces it. */
export function ollamaRegistry(): string {
  return address('OLLAMA_REGISTRY', `https://${OLLAMA_HOST}`);
}

/** A hub that speaks Hugging Face's resolve protocol; HF_ENDPOINT replaces it. */
export function huggingFaceHub(): string {
  return address('HF_ENDPOINT', 'https://huggingface.co');
}

/** Token for the hub: HF_TOKEN, or the name it had before. */
export function huggingFaceToken(): string | null {
  return process.env.HF_TOKEN ?? process.env.HUGGING_FACE_HUB_TOKEN ?? null;
}

function address(variable: string, otherwise: string): string {
  return (process.env[variable] ?? otherwise).replace(/\/+$/, '');
}
