import { css } from '@emotion/css';
import { type GrafanaTheme2, type TimeRange } from '@grafana/data';
import { ClipboardButton, RefreshPicker, TimeRangePicker, ToolbarButton, useStyles2, useTheme2 } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../../../src/selectors';
import { formatState, fromRaw, isLive, type PageState, sharedState } from './urlState';
import { type SetState } from './useUrlState';

interface Props {
  state: PageState;
  timeRange: TimeRange;
  setState: SetState;
  onRefresh: () => void;
}

/** The bar on top: the name, the time range, refresh, a link and the theme. */
export function Header({ state, timeRange, setState, onRefresh }: Props) {
  const styles = useStyles2(getStyles);
  const theme = useTheme2();
  const other = theme.isDark ? 'light' : 'dark';

  const shift = (factor: number) => move(timeRange, factor, 1, setState);
  return (
    <header className={styles.header}>
      <a href="." className={styles.brand} title={`Flameline ${FLAMELINE_VERSION}`}>
        <img src="img/logo.svg" alt="" width={24} height={24} />
        <h1 className={styles.name}>Flameline</h1>
      </a>
      <div className={styles.tools}>
        <TimeRangePicker
          value={timeRange}
          isOnCanvas
          onChange={({ raw }) => setState(fromRaw(raw))}
          onChangeTimeZone={() => undefined}
          onMoveBackward={() => shift(-0.5)}
          onMoveForward={() => shift(0.5)}
          onZoom={() => move(timeRange, 0, 2, setState)}
        />
        <RefreshPicker
          value={isLive(state.to) ? state.refresh : ''}
          isOnCanvas
          tooltip="Refresh"
          noIntervalPicker={!isLive(state.to)}
          onRefresh={onRefresh}
          onIntervalChanged={(refresh) => setState({ refresh }, true)}
        />
        <ClipboardButton
          icon="share-alt"
          variant="secondary"
          tooltip="Copy a link to what is shown, with its times"
          data-testid={selectors.page.share}
          getText={() => new URL(formatState(sharedState(state)), window.location.href).href}
        >
          Share
        </ClipboardButton>
        <ToolbarButton
          icon="adjust-circle"
          variant="canvas"
          aria-label={`Switch to the ${other} theme`}
          tooltip={`Switch to the ${other} theme`}
          data-testid={selectors.page.theme}
          onClick={() => setState({ theme: other }, true)}
        />
      </div>
    </header>
  );
}

/** Moves a range by a part of its length and scales it about its middle. */
function move({ from, to }: TimeRange, by: number, scale: number, setState: SetState) {
  const length = to.valueOf() - from.valueOf();
  const middle = (from.valueOf() + to.valueOf()) / 2 + by * length;
  const half = (length * scale) / 2;
  setState({ from: String(Math.round(middle - half)), to: String(Math.round(middle + half)) });
}

const getStyles = (theme: GrafanaTheme2) => ({
  header: css({
    position: 'sticky',
    top: 0,
    zIndex: theme.zIndex.navbarFixed,
    display: 'flex',
    flexWrap: 'wrap',
    alignItems: 'center',
    justifyContent: 'space-between',
    gap: theme.spacing(1),
    minHeight: theme.spacing(6),
    padding: theme.spacing(0.75, 2),
    background: theme.colors.background.primary,
    borderBottom: `1px solid ${theme.colors.border.weak}`,
  }),
  brand: css({
    display: 'flex',
    alignItems: 'center',
    gap: theme.spacing(1),
  }),
  name: css({
    margin: 0,
    fontSize: theme.typography.h5.fontSize,
    fontWeight: theme.typography.fontWeightMedium,
  }),
  tools: css({
    display: 'flex',
    flexWrap: 'wrap',
    alignItems: 'center',
    gap: theme.spacing(1),
  }),
});
