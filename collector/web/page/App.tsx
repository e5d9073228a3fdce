import { css } from '@emotion/css';
import { type GrafanaTheme2, ThemeContext } from '@grafana/data';
import { Alert, ErrorBoundaryAlert, GlobalStyles, PortalContainer, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../../../src/selectors';
import { Filters } from './Filters';
import { Header } from './Header';
import { HealthNotice } from './HealthNotice';
import { SeriesPanel } from './SeriesPanel';
import { isLive, type PageState, resolveRange } from './urlState';
import { useClock } from './useClock';
import { useTheme } from './useTheme';
import { type SetState, useUrlState } from './useUrlState';
import { useWidth } from './useWidth';
import { ViewPanel } from './ViewPanel';
import { ViewSwitch } from './ViewSwitch';

/** The built-in page: everything that it shows follows from the URL. */
export function App() {
  const [state, setState] = useUrlState();
  const theme = useTheme(state.theme);
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <ErrorBoundaryAlert>
        <Page state={state} setState={setState} />
      </ErrorBoundaryAlert>
    </ThemeContext.Provider>
  );
}

function Page({ state, setState }: { state: PageState; setState: SetState }) {
  const styles = useStyles2(getStyles);
  const [measure, width] = useWidth();
  const [tick, refresh] = useClock(isLive(state.to) ? state.refresh : '');
  const { from, to } = state;

  // The tick is what makes a relative range move.
  const timeRange = React.useMemo(() => ({ tick, ...resolveRange({ from, to }) }), [from, to, tick]);
  const range = React.useMemo(() => ({ from: timeRange.from.valueOf(), to: timeRange.to.valueOf() }), [timeRange]);

  return (
    <div className={styles.page} data-testid={selectors.page.root}>
      <Header state={state} timeRange={timeRange} setState={setState} onRefresh={refresh} />
      <main className={styles.main}>
        <HealthNotice tick={tick} />
        {state.notice && (
          <Alert
            severity="info"
            title={state.notice}
            data-testid={selectors.page.notices}
            onRemove={() => setState({ notice: undefined })}
            className={styles.alert}
          />
        )}
        <Filters state={state} range={range} setState={setState} />
        <div ref={measure}>
          {width > 0 && (
            <div className={styles.panels}>
              <SeriesPanel state={state} timeRange={timeRange} range={range} width={width} setState={setState} />
              <ViewSwitch state={state} range={range} setState={setState} />
              {/* A view does not draw the result of another one. */}
              <ViewPanel
                key={state.queryType}
                state={state}
                timeRange={timeRange}
                range={range}
                width={width}
                setState={setState}
              />
            </div>
          )}
        </div>
      </main>
    </div>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  page: css({
    minHeight: '100vh',
    background: theme.colors.background.canvas,
    color: theme.colors.text.primary,
  }),
  main: css({
    display: 'flex',
    flexDirection: 'column',
    gap: theme.spacing(2),
    padding: theme.spacing(2),
    [theme.breakpoints.down('sm')]: { padding: theme.spacing(1) },
  }),
  panels: css({
    display: 'flex',
    flexDirection: 'column',
    gap: theme.spacing(1),
  }),
  alert: css({ marginBottom: 0 }),
});
