import js from '@eslint/js';
import tseslint from 'typescript-eslint';
import noImportCycle from './eslint-rules/no-import-cycle.mjs';

/** What upstream PL/V8 3.1 and later offers and the bundle may rely on. */
const PLV8_MEMBERS = [
  'execute',
  'prepare',
  'return_next',
  'elog',
  'subtransaction',
  'find_function',
  'quote_literal',
  'quote_nullable',
  'quote_ident',
  'get_window_object',
  'memory_usage',
  'version',
];

export default tseslint.config(
  {
    ignores: [
      '**/node_modules',
      'dist',
      'host',
      '**/build/**',
      'plv8/src/kernels/assembly',
      'models',
      'test/golden/models',
      'bench/peer/node_modules',
    ],
  },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    files: ['**/*.ts', '**/*.mjs'],
    plugins: { own: { rules: { 'no-import-cycle': noImportCycle } } },
    languageOptions: { globals: { process: 'readonly', console: 'readonly', Buffer: 'readonly', URL: 'readonly' } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'own/no-import-cycle': 'error',
      eqeqeq: ['error', 'always'],
    },
  },
  {
    // What runs inside PostgreSQL has no Node, and only db.ts knows PL/V8.
    files: ['plv8/src/**/*.ts'],
    ignores: ['plv8/src/db.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        'plv8',
        'process',
        'Buffer',
        'require',
        'setTimeout',
        'console',
        'performance',
        'TextEncoder',
        'TextDecoder',
        'fetch',
      ],
      'no-restricted-imports': ['error', { patterns: ['node:*', 'pg', '**/cli/**'] }],
    },
  },
  {
    // The bundle runs on every PL/V8, so it uses what all of them have.
    files: ['plv8/src/db.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: `MemberExpression[object.name="plv8"][property.name!=/^(${PLV8_MEMBERS.join('|')})$/]`,
          message:
            'not a member that every PL/V8 has; ask for it as an optional one (plv8 as Extras) and work without it',
        },
      ],
    },
  },
  {
    // The client shares format definitions with the database side and nothing else.
    files: ['cli/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              regex: 'plv8/src/(?!format/|hilbert/)',
              message: 'cli imports only plv8/src/format and plv8/src/hilbert',
            },
          ],
        },
      ],
    },
  },
  {
    // A terminal obeys what is written to it.
    files: ['cli/**/*.ts'],
    ignores: ['cli/output.ts', 'cli/build.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector:
            'CallExpression[callee.property.name="write"]:matches([callee.object.name=/^std(out|err)$/], [callee.object.property.name=/^std(out|err)$/])',
          message: 'write through print, tell and printText of output.ts, which show what a terminal would obey',
        },
        { selector: 'MemberExpression[object.name="console"]', message: 'write through output.ts' },
      ],
    },
  },
);
