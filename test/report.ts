/** A reporter of vitest for bootstrap.mjs: what passed, failed and was skipped, as JSON in the file that TEST_REPORT names. */
import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';

/** How many lines of a failure's message the closing summary keeps: the assertion and what was compared. */
const MESSAGE_LINES = 12;

type Report = {
  passed: number;
  /** Tests that failed, files that could not be loaded, and errors outside any test. */
  failed: { file: string; title: string; message: string }[];
  skipped: { file: string; title: string }[];
};

function messageOf(errors: readonly Partial<SerializedError>[] | undefined): string {
  const text = (errors ?? []).map((error) => `${error.name ?? 'Error'}: ${error.message ?? String(error)}`).join('\n');
  return text.split('\n').slice(0, MESSAGE_LINES).join('\n');
}

export default class implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const path = process.env.TEST_REPORT;
    if (path === undefined) return;
    const report: Report = { passed: 0, failed: [], skipped: [] };
    const fail = (file: string, title: string, errors: readonly Partial<SerializedError>[] | undefined): void => {
      report.failed.push({ file, title, message: messageOf(errors) });
    };
    for (const module of modules) {
      const file = relative(process.cwd(), module.moduleId);
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result();
        if (state === 'passed') report.passed++;
        else if (state === 'failed') fail(file, test.fullName, errors);
        else report.skipped.push({ file, title: test.fullName });
      }
      // A file that does not load, and a hook that fails, have errors of their own.
      if (module.errors().length > 0) fail(file, '(the file itself)', module.errors());
      for (const suite of module.children.allSuites())
        if (suite.errors().length > 0) fail(file, suite.fullName, suite.errors());
    }
    for (const error of unhandled) fail('(outside any test)', '', [error]);
    writeFileSync(path, JSON.stringify(report));
  }
}
