import { type DataSourceInstanceSettings, type DataSourcePluginOptionsEditorProps } from '@grafana/data';
import { t } from '@grafana/i18n';
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
import { durationHint, isDuration } from '../duration';
import { profileTypeName } from '../profileType';
import { createResources } from '../resources';
import { selectors } from '../selectors';
import { sourceTemplateError } from '../sourceTemplate';
import { type DataSourceOptions, DEFAULT_PROFILE_TYPE, type Resources } from '../types';
import { UNESCAPED } from '../unescaped';
import { LabelMappingField } from './LabelMappingField';
import { ProfileTypeSelect } from './ProfileTypeSelect';
import { useRange } from './useRange';

type Props = DataSourcePluginOptionsEditorProps<DataSourceOptions>;

const DOCS = 'https://github.com/flameline/flameline/blob/main/docs/datasource.md';
const LABEL_WIDTH = 24;

/** Examples of what can be typed. */
const EXAMPLES = {
  url: 'http://localhost:4040',
  minStep: '15s',
  sourceTemplate: 'https://git.example.com/shop/search?q={{function}}',
  corePrice: '0.04',
  currency: '$',
};

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
        urlPlaceholder={EXAMPLES.url}
        urlTooltip={t(
          'config-editor.url-tooltip',
          'The address of a Flameline or Grafana Pyroscope server, as Grafana’s server reaches it'
        )}
      />
      <Divider />
      <Auth {...convertLegacyAuthProps({ config: options, onChange: onOptionsChange })} />
      <Divider />
      <ConfigSection title={t('config-editor.querying', 'Querying')}>
        <InlineField
          label={t('config-editor.min-step', 'Minimum step')}
          labelWidth={LABEL_WIDTH}
          tooltip={t(
            'config-editor.min-step-tooltip',
            'The shortest time between two points of a series. Set it to the interval at which profiles are written; 15s by default.'
          )}
          htmlFor={id('min-step')}
          invalid={invalidStep}
          error={durationHint()}
          disabled={readOnly}
        >
          <Input
            id={id('min-step')}
            data-testid={ids.minStep}
            width={40}
            placeholder={EXAMPLES.minStep}
            value={minStep}
            onChange={(event) => update({ minStep: text(event.currentTarget.value.trim()) })}
          />
        </InlineField>
        <InlineField
          label={t('config-editor.profile-type', 'Default profile type')}
          labelWidth={LABEL_WIDTH}
          tooltip={t(
            'config-editor.profile-type-tooltip',
            'The profile type of new queries and of links from alerts; CPU time by default'
          )}
          htmlFor={id('profile-type')}
          disabled={readOnly}
        >
          <ProfileTypeSelect
            id={id('profile-type')}
            testId={ids.defaultProfileType}
            width={40}
            placeholder={profileTypeName(DEFAULT_PROFILE_TYPE)}
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
        title={t('config-editor.links-and-costs', 'Links and costs')}
        description={t(
          'config-editor.links-and-costs-description',
          'Where labels, functions and CPU time lead to, and what they cost'
        )}
        isCollapsible
        isInitiallyOpen={Boolean(linked)}
      >
        <InlineField
          label={t('config-editor.prometheus', 'Prometheus data source')}
          labelWidth={LABEL_WIDTH}
          tooltip={t('config-editor.prometheus-tooltip', 'Series of CPU time link to the same labels’ CPU usage in it')}
          htmlFor={id('prometheus')}
          disabled={readOnly}
        >
          <div data-testid={ids.prometheus}>
            <DataSourcePicker
              inputId={id('prometheus')}
              type="prometheus"
              noDefault
              width={40}
              placeholder={t('config-editor.prometheus-placeholder', 'None')}
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
          label={t('config-editor.source', 'Source of functions')}
          labelWidth={LABEL_WIDTH}
          tooltip={t(
            'config-editor.source-tooltip',
            'A URL in which {{functionName}}, {{file}} and {{line}} stand for a function’s name, source file and first line, and a label in braces, such as {{version}}, for the value that the query selects. Functions in tables link to it.',
            {
              functionName: '{{function}}',
              file: '{{file}}',
              line: '{{line}}',
              version: '{{version}}',
              interpolation: UNESCAPED,
            }
          )}
          htmlFor={id('source')}
          invalid={templateError !== undefined}
          error={templateError}
          disabled={readOnly}
        >
          <Input
            id={id('source')}
            data-testid={ids.sourceTemplate}
            width={60}
            placeholder={EXAMPLES.sourceTemplate}
            value={jsonData.sourceTemplate ?? ''}
            onChange={(event) => update({ sourceTemplate: text(event.currentTarget.value) })}
          />
        </InlineField>
        <InlineField
          label={t('config-editor.price', 'Price of a core-hour')}
          labelWidth={LABEL_WIDTH}
          tooltip={t(
            'config-editor.price-tooltip',
            'Tables of functions then show what each function’s own CPU time costs in a month of 730 hours'
          )}
          htmlFor={id('price')}
          invalid={price !== undefined && !(price >= 0)}
          error={t('config-editor.invalid-price', 'A price is a number of at least 0')}
          disabled={readOnly}
        >
          <Input
            id={id('price')}
            data-testid={ids.corePrice}
            type="number"
            min={0}
            step="any"
            width={20}
            placeholder={EXAMPLES.corePrice}
            value={price ?? ''}
            onChange={({ currentTarget: { value } }) => update({ corePrice: value === '' ? undefined : Number(value) })}
          />
        </InlineField>
        <InlineField
          label={t('config-editor.currency', 'Currency')}
          labelWidth={LABEL_WIDTH}
          tooltip={t('config-editor.currency-tooltip', 'A symbol such as $ or €')}
          htmlFor={id('currency')}
          disabled={readOnly}
        >
          <Input
            id={id('currency')}
            data-testid={ids.currency}
            width={20}
            maxLength={8}
            placeholder={EXAMPLES.currency}
            value={jsonData.currency ?? ''}
            onChange={(event) => update({ currency: text(event.currentTarget.value.trim()) })}
          />
        </InlineField>
      </ConfigSection>
      <Divider />
      <ConfigSection
        title={t('config-editor.advanced', 'Advanced settings')}
        isCollapsible
        isInitiallyOpen={Boolean(jsonData.timeout || jsonData.keepCookies?.length || jsonData.enableSecureSocksProxy)}
      >
        <AdvancedHttpSettings config={options} onChange={onOptionsChange} />
        {config.secureSocksDSProxyEnabled && (
          <ConfigSubSection title={t('config-editor.socks-proxy', 'Secure SOCKS proxy')}>
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
