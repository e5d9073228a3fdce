import { css } from '@emotion/css';
import { FlameGraph } from '@grafana/flamegraph';
import { useTheme2 } from '@grafana/ui';
import * as React from 'react';
import { paletteOf, type Palette } from '../../../src/profileType';
import { type ViewProps } from './ViewPanel';

/** Below this width, in pixels, the table stands under the flame graph. */
const NARROW = 800;

/**
 * Filters that give the component's picture, which has one set of colours, the shades of
 * a palette. Dark text stays dark.
 */
const COLOURS: Record<Palette, string | undefined> = {
  hot: undefined,
  cold: css({ canvas: { filter: 'sepia(1) hue-rotate(165deg) saturate(2.2) brightness(0.92)' } }),
  green: css({ canvas: { filter: 'sepia(1) hue-rotate(60deg) saturate(1.8)' } }),
};

/**
 * The flame graph of everything that the selector and the time range hold, or how it
 * differs from a baseline. A difference has colours of its own.
 */
export function FlameGraphView({ state, frames, width }: ViewProps) {
  const theme = useTheme2();
  const getTheme = React.useCallback(() => theme, [theme]);
  return (
    <div className={state.queryType === 'profile' ? COLOURS[paletteOf(state.profileTypeId)] : undefined}>
      <FlameGraph
        data={frames[0]}
        getTheme={getTheme}
        vertical={width < NARROW}
        keepFocusOnDataChange
        showAnalyzeWithAssistant={false}
      />
    </div>
  );
}
