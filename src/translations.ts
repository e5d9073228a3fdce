import { initPluginTranslations, type ResourceLoader } from '@grafana/i18n';
import i18next from 'i18next';
import plugin from './plugin.json';

/**
 * Loads the texts of a language where Grafana has not: before version 12.1, and in
 * 12.1.0 without a feature toggle, plugins do it. English texts stand in the code.
 */
const loadTexts: ResourceLoader = async (language) => {
  const wanted = language !== 'en-US' && plugin.languages.includes(language);
  if (!wanted || i18next.hasResourceBundle(language, plugin.id)) {
    return {};
  }
  const texts = await import(/* webpackExclude: /en-US/ */ `./locales/${language}/flameline-profiles-datasource.json`);
  return texts.default;
};

/** Makes t() give texts in Grafana's language; awaited before the first text is shown. */
export async function initTranslations(): Promise<void> {
  await initPluginTranslations(plugin.id, [loadTexts]);
}
