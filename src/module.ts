import { DataSourcePlugin } from '@grafana/data';
import { ConfigEditor } from './components/ConfigEditor';
import { QueryEditor } from './components/QueryEditor';
import { ProfileDataSource } from './datasource';

export const plugin = new DataSourcePlugin(ProfileDataSource)
  .setConfigEditor(ConfigEditor)
  .setQueryEditor(QueryEditor);
