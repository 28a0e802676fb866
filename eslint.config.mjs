import eslint from '@eslint/js';
import { defineConfig } from 'eslint/config';
import globals from 'globals';
import tseslint from 'typescript-eslint';

const unusedVariables = [
  'error',
  { argsIgnorePattern: '^_', varsIgnorePattern: '^_', ignoreRestSiblings: true },
];

/** Tests of programs replace these; `lib/support/timers.ts` has the ones that stay. */
const replaced = 'Take it from lib/support/timers.ts';
const clocks = [
  ...['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate'],
  ...['clearImmediate', 'queueMicrotask', 'performance'],
].map((name) => ({ name, message: replaced }));

export default defineConfig(
  { ignores: ['build*/', 'dist/', 'prebuilds/', '.build-tools/', '**/*.d.ts'] },
  eslint.configs.recommended,
  {
    files: ['lib/**/*.{ts,mts}'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // CommonJS output: `import x = require('…')` is the exact form of what is emitted.
      '@typescript-eslint/no-require-imports': ['error', { allowAsImport: true }],
      // A name that is a class and a type: an interface of its own has a page of the API reference.
      '@typescript-eslint/no-empty-object-type': [
        'error',
        { allowInterfaces: 'with-single-extends' },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': unusedVariables,
      'no-restricted-globals': ['error', ...clocks],
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'nextTick', message: replaced },
        { object: 'process', property: 'hrtime', message: replaced },
      ],
    },
  },
  {
    files: ['lib/support/timers.ts', 'lib/support/clock.ts'],
    rules: {
      'no-restricted-globals': 'off',
      'no-restricted-properties': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  {
    // Load the binary, BullMQ, or micro-threads: `require` where and when it is wanted.
    files: [
      'lib/loader.ts',
      'lib/doctor/diagnosis.ts',
      'lib/bullmq/load.ts',
      'lib/stage/run/generators.ts',
    ],
    rules: { '@typescript-eslint/no-require-imports': 'off' },
  },
  {
    files: ['test/**/*.ts', '*.mts'],
    extends: [tseslint.configs.recommended],
    languageOptions: { globals: globals.nodeBuiltin },
    rules: {
      '@typescript-eslint/no-unused-vars': unusedVariables,
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['**/*.{js,mjs}'],
    ignores: ['lib/stage/inspector/page/'],
    languageOptions: { globals: globals.nodeBuiltin },
  },
  {
    files: ['lib/stage/inspector/page/*.mjs'],
    languageOptions: { globals: globals.browser },
  },
  {
    files: ['**/*.cjs'],
    languageOptions: { globals: globals.node, sourceType: 'commonjs' },
  },
);
