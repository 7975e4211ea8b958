/**
 * ESLint rule: no file imports itself by way of others, types and dynamic imports included, which import-x/no-cycle leaves
 * out. A relative import names its file whole, which the rule sees to, so that a path is all that resolving takes.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import ts from 'typescript';

const RELATIVE = /^\.{1,2}(\/|$)/;
const OWN_FILE = /^\.{1,2}\/.*\.(ts|mjs)$/;
const FILE_NAME = /\.(ts|mjs|js|json|html)$/;
/** Files that each file imports; a run of ESLint reads every one of them once. */
const imported = new Map();

function importsOf(file) {
  if (!imported.has(file)) {
    const { importedFiles } = ts.preProcessFile(existsSync(file) ? readFileSync(file, 'utf8') : '');
    const own = importedFiles.map(({ fileName }) => fileName).filter((name) => OWN_FILE.test(name));
    imported.set(
      file,
      own.map((name) => resolve(dirname(file), name)),
    );
  }
  return imported.get(file);
}

/** The shortest way from one file to another along imports, both included; null where there is none. */
function wayBetween(from, to) {
  const cameFrom = new Map([[from, null]]);
  for (const file of cameFrom.keys()) {
    if (file === to) {
      const way = [];
      for (let step = file; step !== null; step = cameFrom.get(step)) way.unshift(step);
      return way;
    }
    for (const next of importsOf(file)) if (!cameFrom.has(next)) cameFrom.set(next, file);
  }
  return null;
}

export default {
  meta: { type: 'problem', schema: [] },
  create(context) {
    const file = context.physicalFilename;
    /** `source` is the literal that names what is imported; computed ones are not looked at. */
    const check = (node, source) => {
      const name = source?.type === 'Literal' ? source.value : null;
      if (typeof name !== 'string' || !RELATIVE.test(name)) return;
      const target = resolve(dirname(file), name);
      if (!FILE_NAME.test(name) || (name.endsWith('.js') && !existsSync(target))) {
        context.report({ node, message: `import names no file: ${name}` });
        return;
      }
      if (!OWN_FILE.test(name)) return;
      const way = wayBetween(target, file);
      if (way === null) return;
      const names = way.map((step) => relative(context.cwd, step));
      context.report({ node, message: `circle of imports: ${names.join(' imports ')}` });
    };
    return {
      'ImportDeclaration, ExportNamedDeclaration[source], ExportAllDeclaration, ImportExpression'(node) {
        check(node, node.source);
      },
      TSImportType(node) {
        check(node, node.source ?? node.argument?.literal);
      },
    };
  },
};
