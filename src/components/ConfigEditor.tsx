import { type DataSourcePluginOptionsEditorProps } from '@grafana/data';
import { DataSourceHttpSettings, InlineField, Input } from '@grafana/ui';
import * as React from 'react';
import { DURATION_HINT, isDuration } from '../duration';
import { selectors } from '../selectors';
import { type DataSourceOptions } from '../types';

type Props = DataSourcePluginOptionsEditorProps<DataSourceOptions>;

/** Edits the settings of a data source: the server, how to sign in, the minimum step. */
export function ConfigEditor({ options, onOptionsChange }: Props) {
  const id = React.useId();
  const minStep = options.jsonData.minStep ?? '';
  const invalid = minStep !== '' && !isDuration(minStep);

  return (
    <div data-testid={selectors.configEditor.root}>
      <DataSourceHttpSettings
        defaultUrl="http://localhost:4040"
        urlDocs={<> It is a Flameline or Grafana Pyroscope server’s.</>}
        showForwardOAuthIdentityOption
        dataSourceConfig={options}
        onChange={onOptionsChange}
      />
      <h3 className="page-heading">Querying</h3>
      <div className="gf-form-group">
        <InlineField
          label="Minimum step"
          labelWidth={26}
          tooltip="The shortest time between two points of a series. Set it to the interval at which profiles are written; 15s by default."
          htmlFor={id}
          invalid={invalid}
          error={DURATION_HINT}
        >
          <Input
            id={id}
            data-testid={selectors.configEditor.minStep}
            width={40}
            placeholder="15s"
            value={minStep}
            onChange={(event) =>
              onOptionsChange({
                ...options,
                jsonData: { ...options.jsonData, minStep: event.currentTarget.value.trim() || undefined },
              })
            }
          />
        </InlineField>
      </div>
    </div>
  );
}
