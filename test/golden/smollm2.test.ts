/** A trained chat model through SQL against llama.cpp on the same weights dequantised to F32. */
import { readChatGolden, testChatGolden } from './chat-golden.ts';
import { smollm2File } from './smollm2-file.ts';

const golden = readChatGolden('smollm2-135m-q4_1.json');
testChatGolden(golden, () => smollm2File(golden.sha256));
