import { readFileSync } from 'node:fs';

const { id, languages } = JSON.parse(readFileSync(new URL('src/plugin.json', import.meta.url), 'utf8'));

const ENGLISH = 'en-US';

/** What `npm run i18n-extract` does: the texts of t() and Trans in the code into the files of all languages. */
export default {
  input: ['src/**/*.{ts,tsx}', '!src/**/*.test.{ts,tsx}'],
  output: 'src/locales/$LOCALE/$NAMESPACE.json',
  locales: languages,
  defaultNamespace: id,
  // English follows the code; in other languages, a new text and one that changes wait for their translation.
  resetDefaultValueLocale: ENGLISH,
  defaultValue: (locale, namespace, key, english) => (locale === ENGLISH ? english : ''),
  createOldCatalogs: false,
  failOnWarnings: true,
  lineEnding: 'lf',
  sort: true,
};
