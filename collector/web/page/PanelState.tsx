import { css } from '@emotion/css';
import { type GrafanaTheme2 } from '@grafana/data';
import { Alert, LoadingPlaceholder, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../../../src/selectors';
import { type QueryState } from './useQuery';

interface Props {
  query: QueryState;
  /** The least height of the panel's inside in pixels, where there is nothing to draw. */
  height: number;
  /** What to say where the result is empty; undefined where it is not. */
  empty?: React.ReactNode;
  /** Draws the result. */
  children: React.ReactNode;
}

/** The inside of a panel: loading, an error, nothing, or what was asked for. */
export function PanelState({ query, height, empty, children }: Props) {
  const styles = useStyles2(getStyles);
  const { result, error, loading } = query;
  // What to do about an empty result is said better here than by a notice for Grafana.
  const notices = (result?.notices ?? []).filter(({ severity }) => !empty || severity !== 'info');
  return (
    <>
      {error && (
        <Alert severity="error" title={error} data-testid={selectors.page.error} className={styles.alert} />
      )}
      {notices.map(({ severity, text }, i) => (
        <Alert
          key={i}
          severity={severity}
          title={text}
          data-testid={selectors.page.notices}
          className={styles.alert}
        />
      ))}
      {!result && loading && (
        <div className={styles.center} style={{ minHeight: height }}>
          <LoadingPlaceholder text="Loading…" />
        </div>
      )}
      {result && empty && (
        <div className={styles.center} style={{ minHeight: height }} data-testid={selectors.page.empty}>
          {empty}
        </div>
      )}
      {result && !empty && children}
    </>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  alert: css({ margin: theme.spacing(0, 0, 1) }),
  center: css({
    display: 'flex',
    flexDirection: 'column',
    alignItems: 'center',
    justifyContent: 'center',
    gap: theme.spacing(1),
    padding: theme.spacing(2),
    textAlign: 'center',
    color: theme.colors.text.secondary,
  }),
});
