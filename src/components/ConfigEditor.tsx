import { type DataSourceInstanceSettings, type DataSourcePluginOptionsEditorProps } from '@grafana/data';
import {
  AdvancedHttpSettings,
  Auth,
  ConfigSection,
  ConfigSubSection,
  ConnectionSettings,
  convertLegacyAuthProps,
  DataSourceDescription,
  SecureSocksProxyToggle,
} from '@grafana/plugin-ui';
import { config, DataSourcePicker, getBackendSrv } from '@grafana/runtime';
import { Divider, InlineField, Input } from '@grafana/ui';
import * as React from 'react';
import { DURATION_HINT, isDuration } from '../duration';
import { createResources } from '../resources';
import { selectors } from '../selectors';
import { sourceTemplateError } from '../sourceTemplate';
import { type DataSourceOptions, type Resources } from '../types';
import { LabelMappingField } from './LabelMappingField';
import { ProfileTypeSelect } from './ProfileTypeSelect';
import { useRange } from './useRange';

type Props = DataSourcePluginOptionsEditorProps<DataSourceOptions>;

const DOCS = 'https://github.com/flameline/flameline/blob/main/docs/datasource.md';
const LABEL_WIDTH = 24;
const ids = selectors.configEditor;

/** Edits the settings of a data source: the server, how to sign in, and what queries and links use. */
export function ConfigEditor({ options, onOptionsChange }: Props) {
  const prefix = React.useId();
  const range = useRange();
  const resources = React.useMemo(() => savedResources(options.uid), [options.uid]);
  const { jsonData, readOnly } = options;
  const update = (change: Partial<DataSourceOptions>) =>
    onOptionsChange({ ...options, jsonData: { ...jsonData, ...change } });
  const id = (name: string) => `${prefix}-${name}`;
  const text = (value: string) => value || undefined;

  const minStep = jsonData.minStep ?? '';
  const invalidStep = minStep !== '' && !isDuration(minStep);
  const price = jsonData.corePrice;
  const templateError = sourceTemplateError(jsonData.sourceTemplate ?? '');
  const linked = jsonData.prometheusUid || jsonData.labelMapping?.length || jsonData.sourceTemplate || price;

  return (
    <div data-testid={ids.root}>
      <DataSourceDescription dataSourceName="Flameline Profiles" docsLink={DOCS} />
      <Divider />
      <ConnectionSettings
        config={options}
        onChange={onOptionsChange}
        urlPlaceholder="http://localhost:4040"
        urlTooltip="The address of a Flameline or Grafana Pyroscope server, as Grafana’s server reaches it"
      />
      <Divider />
      <Auth {...convertLegacyAuthProps({ config: options, onChange: onOptionsChange })} />
      <Divider />
      <ConfigSection title="Querying">
        <InlineField
          label="Minimum step"
          labelWidth={LABEL_WIDTH}
          tooltip="The shortest time between two points of a series. Set it to the interval at which profiles are written; 15s by default."
          htmlFor={id('min-step')}
          invalid={invalidStep}
          error={DURATION_HINT}
          disabled={readOnly}
        >
          <Input
            id={id('min-step')}
            data-testid={ids.minStep}
            width={40}
            placeholder="15s"
            value={minStep}
            onChange={(event) => update({ minStep: text(event.currentTarget.value.trim()) })}
          />
        </InlineField>
        <InlineField
          label="Default profile type"
          labelWidth={LABEL_WIDTH}
          tooltip="The profile type of new queries and of links from alerts; CPU time by default"
          htmlFor={id('profile-type')}
          disabled={readOnly}
        >
          <ProfileTypeSelect
            id={id('profile-type')}
            testId={ids.defaultProfileType}
            width={40}
            placeholder="CPU time"
            isClearable
            value={jsonData.defaultProfileType ?? ''}
            range={range}
            resources={resources}
            onChange={(type) => update({ defaultProfileType: text(type) })}
          />
        </InlineField>
      </ConfigSection>
      <Divider />
      <ConfigSection
        title="Links and costs"
        description="Where labels, functions and CPU time lead to, and what they cost"
        isCollapsible
        isInitiallyOpen={Boolean(linked)}
      >
        <InlineField
          label="Prometheus data source"
          labelWidth={LABEL_WIDTH}
          tooltip="Series of CPU time link to the same labels’ CPU usage in it"
          htmlFor={id('prometheus')}
          disabled={readOnly}
        >
          <div data-testid={ids.prometheus}>
            <DataSourcePicker
              inputId={id('prometheus')}
              type="prometheus"
              noDefault
              width={40}
              placeholder="None"
              current={jsonData.prometheusUid ?? null}
              onChange={({ uid }: DataSourceInstanceSettings) => update({ prometheusUid: uid })}
              onClear={() => update({ prometheusUid: undefined })}
            />
          </div>
        </InlineField>
        <LabelMappingField
          mapping={jsonData.labelMapping ?? []}
          readOnly={readOnly}
          onChange={(labelMapping) => update({ labelMapping: labelMapping.length ? labelMapping : undefined })}
        />
        <InlineField
          label="Source of functions"
          labelWidth={LABEL_WIDTH}
          tooltip="A URL in which {{function}}, {{file}} and {{line}} stand for a function’s name, source file and first line, and a label in braces, such as {{version}}, for the value that the query selects. Functions in tables link to it."
          htmlFor={id('source')}
          invalid={templateError !== undefined}
          error={templateError}
          disabled={readOnly}
        >
          <Input
            id={id('source')}
            data-testid={ids.sourceTemplate}
            width={60}
            placeholder="https://git.example.com/shop/search?q={{function}}"
            value={jsonData.sourceTemplate ?? ''}
            onChange={(event) => update({ sourceTemplate: text(event.currentTarget.value) })}
          />
        </InlineField>
        <InlineField
          label="Price of a core-hour"
          labelWidth={LABEL_WIDTH}
          tooltip="Tables of functions then show what each function’s own CPU time costs in a month of 730 hours"
          htmlFor={id('price')}
          invalid={price !== undefined && !(price >= 0)}
          error="A price is a number of at least 0"
          disabled={readOnly}
        >
          <Input
            id={id('price')}
            data-testid={ids.corePrice}
            type="number"
            min={0}
            step="any"
            width={20}
            placeholder="0.04"
            value={price ?? ''}
            onChange={({ currentTarget: { value } }) => update({ corePrice: value === '' ? undefined : Number(value) })}
          />
        </InlineField>
        <InlineField
          label="Currency"
          labelWidth={LABEL_WIDTH}
          tooltip="A symbol such as $ or €"
          htmlFor={id('currency')}
          disabled={readOnly}
        >
          <Input
            id={id('currency')}
            data-testid={ids.currency}
            width={20}
            maxLength={8}
            placeholder="$"
            value={jsonData.currency ?? ''}
            onChange={(event) => update({ currency: text(event.currentTarget.value.trim()) })}
          />
        </InlineField>
      </ConfigSection>
      <Divider />
      <ConfigSection
        title="Advanced settings"
        isCollapsible
        isInitiallyOpen={Boolean(jsonData.timeout || jsonData.keepCookies?.length || jsonData.enableSecureSocksProxy)}
      >
        <AdvancedHttpSettings config={options} onChange={onOptionsChange} />
        {config.secureSocksDSProxyEnabled && (
          <ConfigSubSection title="Secure SOCKS proxy">
            <SecureSocksProxyToggle
              labelWidth={LABEL_WIDTH}
              dataSourceConfig={options}
              onChange={onOptionsChange}
            />
          </ConfigSubSection>
        )}
      </ConfigSection>
    </div>
  );
}

/** Completions of the data source as it was last saved; none where that cannot be asked. */
function savedResources(uid: string): Resources {
  return createResources((path, params) =>
    getBackendSrv()
      .get<unknown>(`/api/datasources/uid/${uid}/resources/${path}`, params, undefined, { showErrorAlert: false })
      .catch(() => [])
  );
}
