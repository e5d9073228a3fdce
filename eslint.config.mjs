import i18n from '@grafana/i18n/eslint-plugin';
import hooks from 'eslint-plugin-react-hooks';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist/', 'collector/web/dist/', 'node_modules/', 'test-results/', 'coverage/', 'e2e/load/', 'e2e/senders/', 'collector/sample/cut/load/', 'collector/sample/cut/testdata/', 'collector/sample/testdata/', 'data/'] },
  ...tseslint.configs.strict,
  {
    files: ['**/*.{ts,tsx}'],
    plugins: { 'react-hooks': hooks },
    rules: {
      ...hooks.configs.recommended.rules,
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      'no-console': 'error',
      eqeqeq: 'error',
    },
  },
  {
    // The plugin is translated; the page is in English.
    files: ['src/**'],
    ignores: ['**/*.test.{ts,tsx}'],
    plugins: { '@grafana/i18n': i18n },
    rules: {
      '@grafana/i18n/no-untranslated-strings': ['error', { calleesToIgnore: ['^css$'] }],
      '@grafana/i18n/no-translation-top-level': 'error',
    },
  },
  {
    // The page and the plugin share components; only the data source and its
    // settings may need Grafana's runtime, which the page does not have.
    files: ['src/components/**', 'src/*.ts', 'collector/web/page/**'],
    ignores: ['src/datasource.ts', 'src/components/ConfigEditor*', '**/*.test.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: ['@grafana/runtime'] }] },
  }
);
