/** `npm run stress -- [SECONDS] [SEED] [kills] [engine]`: 16 sessions on a private cluster of their own; exit code 1 with findings. */
import { startPrimary } from '../scale/servers.ts';
import { readArguments, stress } from './driver.ts';

const { seconds, seed, kills, engine } = readArguments(process.argv.slice(2));
const { cluster, url } = await startPrimary();
try {
  const result = await stress({ url, seconds, seed, sessions: 16, kills, engine, log: (line) => console.log(line) });
  console.log('steps', result.steps);
  console.log('documented errors', result.expected);
  for (const finding of result.findings.slice(0, 50)) console.log(`finding: ${finding}`);
  console.log(
    `${result.findings.length} findings; repeat with: npm run stress -- ${seconds} ${seed}${kills ? ' kills' : ''}${engine ? ' engine' : ''}`,
  );
  process.exitCode = result.findings.length === 0 ? 0 : 1;
} finally {
  cluster.destroy();
}
