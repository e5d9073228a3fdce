import { DataSourcePlugin } from '@grafana/data';
import { LazyConfigEditor, LazyQueryEditor } from './components/lazy';
import { ProfileDataSource } from './datasource';
import { initTranslations } from './translations';

await initTranslations();

export const plugin = new DataSourcePlugin(ProfileDataSource)
  .setConfigEditor(LazyConfigEditor)
  .setQueryEditor(LazyQueryEditor);
