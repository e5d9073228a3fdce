import { css } from '@emotion/css';
import { LoadingState } from '@grafana/data';
import { checkFields, FlameGraph, getMessageCheckFieldsResult } from '@grafana/flamegraph';
import { PanelChrome, useTheme2 } from '@grafana/ui';
import * as React from 'react';
import { paletteOf, type Palette, profileTypeName } from '../../../src/profileType';
import { SERVICE_LABEL, tryParseSelector } from '../../../src/selector';
import { selectors } from '../../../src/selectors';
import { QUERY_VERSION, type Range } from '../../../src/types';
import { NoProfiles } from './NoProfiles';
import { PanelState } from './PanelState';
import { type PageState } from './urlState';
import { useQuery } from './useQuery';

/** More than a screen can show: functions are searched for in the table, too. */
const MAX_NODES = 16384;

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

interface Props {
  state: PageState;
  range: Range;
  width: number;
}

/** The flame graph of everything that the selector and the time range hold. */
export function FlameGraphPanel({ state, range, width }: Props) {
  const theme = useTheme2();
  const { profileTypeId, labelSelector } = state;
  const query = useQuery(
    {
      refId: 'profile',
      version: QUERY_VERSION,
      queryType: 'profile',
      profileTypeId,
      labelSelector,
      maxNodes: MAX_NODES,
      maxDataPoints: width,
      intervalMs: 1000,
    },
    range
  );
  const frame = query.result?.frames[0];
  const wrong = frame && checkFields(frame);
  const getTheme = React.useCallback(() => theme, [theme]);

  const service = tryParseSelector(labelSelector)?.find((m) => m.name === SERVICE_LABEL);
  const services = service ? `${service.op === '=' ? '' : `services ${service.op} `}${service.value}` : 'all services';
  const title = `${profileTypeName(profileTypeId)} of ${services}`;
  return (
    <section aria-label={title} className={COLOURS[paletteOf(profileTypeId)]} data-testid={selectors.page.flameGraph}>
      <PanelChrome title={title} loadingState={query.loading ? LoadingState.Loading : LoadingState.Done}>
        <PanelState
          height={200}
          query={wrong ? { loading: false, error: getMessageCheckFieldsResult(wrong) } : query}
          empty={frame && frame.length > 0 && rootValue(frame.fields) > 0 ? undefined : <NoProfiles />}
        >
          <FlameGraph
            data={frame}
            getTheme={getTheme}
            vertical={width < NARROW}
            keepFocusOnDataChange
            showAnalyzeWithAssistant={false}
          />
        </PanelState>
      </PanelChrome>
    </section>
  );
}

/** The value of the first node, which is the root. */
function rootValue(fields: Array<{ name: string; values: unknown[] }>): number {
  return Number(fields.find(({ name }) => name === 'value')?.values[0] ?? 0);
}
