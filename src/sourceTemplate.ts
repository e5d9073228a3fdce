import { t } from '@grafana/i18n';
import { UNESCAPED } from './unescaped';

const PLACEHOLDER = /\{\{\s*([^{}]*?)\s*\}\}/g;

/**
 * What is wrong with the URL template of functions' sources, or undefined; an
 * empty one has no links. pkg/plugin/source.go checks the same.
 */
export function sourceTemplateError(template: string): string | undefined {
  if (template.trim() === '') {
    return undefined;
  }
  const names = [...template.matchAll(PLACEHOLDER)].map(([, name]) => name);
  const plain = template.trim().replace(PLACEHOLDER, 'x');
  const isURL = /^https?:\/\/[^/\s]/.test(plain) && URL.canParse(plain);
  return isURL && !/[{}$]/.test(plain) && !names.includes('')
    ? undefined
    : t('config-editor.invalid-source', 'A source is a URL such as {{example}}', {
        example: 'https://git.example.com/search?q={{function}}',
        interpolation: UNESCAPED,
      });
}
