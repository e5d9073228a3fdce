import { css } from '@emotion/css';
import { type GrafanaTheme2 } from '@grafana/data';
import { t } from '@grafana/i18n';
import { Icon, Tooltip, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { UNESCAPED } from '../unescaped';

interface Props {
  label: string;
  /** The id of the input, so that a click on the label focuses it; unset for a group, which has a name of its own. */
  htmlFor?: string;
  tooltip?: string;
  error?: string;
  children: React.ReactNode;
}

/** A small label above an input, as Grafana's query builders have it. */
export function EditorField({ label, htmlFor, tooltip, error, children }: Props) {
  const styles = useStyles2(getStyles);
  return (
    <div className={styles.field}>
      <div className={styles.label}>
        {htmlFor ? <label htmlFor={htmlFor}>{label}</label> : <span>{label}</span>}
        {tooltip && (
          <Tooltip content={tooltip} placement="top">
            <Icon
              name="info-circle"
              size="sm"
              tabIndex={0}
              title={t('editor-field.about', 'About “{{label}}”', { label, interpolation: UNESCAPED })}
            />
          </Tooltip>
        )}
      </div>
      {children}
      {error && (
        <div className={styles.error} role="alert">
          <Icon name="exclamation-triangle" size="sm" /> {error}
        </div>
      )}
    </div>
  );
}

/** Fields beside each other, wrapped where they do not fit. */
export function EditorRow({ children, testId }: { children: React.ReactNode; testId?: string }) {
  const styles = useStyles2(getStyles);
  return (
    <div className={styles.row} data-testid={testId}>
      {children}
    </div>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  row: css({
    display: 'flex',
    flexWrap: 'wrap',
    alignItems: 'flex-start',
    gap: theme.spacing(2),
  }),
  field: css({ minWidth: 0 }),
  label: css({
    display: 'flex',
    alignItems: 'center',
    gap: theme.spacing(0.5),
    marginBottom: theme.spacing(0.25),
    fontSize: theme.typography.bodySmall.fontSize,
    fontWeight: theme.typography.fontWeightMedium,
    color: theme.colors.text.secondary,
    '& label': { margin: 0 },
  }),
  error: css({
    marginTop: theme.spacing(0.5),
    fontSize: theme.typography.bodySmall.fontSize,
    color: theme.colors.error.text,
  }),
});
