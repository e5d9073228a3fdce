import { css } from '@emotion/css';
import { type GrafanaTheme2 } from '@grafana/data';
import { t, Trans } from '@grafana/i18n';
import { Button, IconButton, InlineLabel, Input, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../selectors';
import { type LabelMapping } from '../types';

interface Props {
  mapping: LabelMapping[];
  readOnly?: boolean;
  onChange: (mapping: LabelMapping[]) => void;
}

const ids = selectors.configEditor;

/** Edits which label of profiles has the values of a label of metrics. */
export function LabelMappingField({ mapping, readOnly, onChange }: Props) {
  const styles = useStyles2(getStyles);
  const replace = (index: number, change: Partial<LabelMapping>) =>
    onChange(mapping.map((m, i) => (i === index ? { ...m, ...change } : m)));

  return (
    <div className={styles.field} data-testid={ids.labelMapping}>
      <InlineLabel
        width={24}
        tooltip={t(
          'label-mapping.tooltip',
          'Labels of metrics whose names differ from those of profiles. Links from alerts, links to Prometheus and Explore’s switch between data sources use them.'
        )}
      >
        <Trans i18nKey="label-mapping.label">Label mapping</Trans>
      </InlineLabel>
      <div>
        {mapping.map(({ metrics, profiles }, index) => (
          <div key={index} className={styles.row}>
            <Input
              aria-label={t('label-mapping.metrics-number', 'Label of metrics {{number}}', { number: index + 1 })}
              data-testid={ids.mappingMetrics}
              width={24}
              placeholder={t('label-mapping.metrics', 'Label of metrics')}
              disabled={readOnly}
              invalid={metrics === '' && profiles !== ''}
              value={metrics}
              onChange={(event) => replace(index, { metrics: event.currentTarget.value.trim() })}
            />
            <span aria-hidden>→</span>
            <Input
              aria-label={t('label-mapping.profiles-number', 'Label of profiles {{number}}', { number: index + 1 })}
              data-testid={ids.mappingProfiles}
              width={24}
              placeholder={t('label-mapping.profiles', 'Label of profiles')}
              disabled={readOnly}
              invalid={profiles === '' && metrics !== ''}
              value={profiles}
              onChange={(event) => replace(index, { profiles: event.currentTarget.value.trim() })}
            />
            <IconButton
              name="times"
              size="md"
              disabled={readOnly}
              aria-label={t('label-mapping.remove', 'Remove mapping {{number}}', { number: index + 1 })}
              onClick={() => onChange(mapping.filter((_, i) => i !== index))}
            />
          </div>
        ))}
        <Button
          variant="secondary"
          icon="plus"
          size="sm"
          data-testid={ids.addMapping}
          disabled={readOnly}
          onClick={() => onChange([...mapping, { metrics: '', profiles: '' }])}
        >
          <Trans i18nKey="label-mapping.add">Add a label</Trans>
        </Button>
      </div>
    </div>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  field: css({ display: 'flex', alignItems: 'flex-start', marginBottom: theme.spacing(0.5) }),
  row: css({ display: 'flex', alignItems: 'center', gap: theme.spacing(1), marginBottom: theme.spacing(0.5) }),
});
