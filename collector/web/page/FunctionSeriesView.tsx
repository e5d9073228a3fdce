import { useTheme2 } from '@grafana/ui';
import * as React from 'react';
import { prepareSeries, SeriesColors } from './series';
import { SeriesChart } from './SeriesChart';
import { showView } from './urlState';
import { type ViewProps } from './ViewPanel';

/** The label of a series that has its function. */
const FUNCTION_LABEL = 'function';

/** Functions over time. A function's name in the legend chooses that function, and again, the largest. */
export function FunctionSeriesView({ state, frames, timeRange, width, setState }: ViewProps) {
  const theme = useTheme2();
  const { groupBy, functions, sort } = state;
  const [colors] = React.useState(() => new SeriesColors());
  const prepared = React.useMemo(() => {
    // What functions use themselves adds up; with what they call, it is counted in each caller.
    const style = { labels: [FUNCTION_LABEL, ...(groupBy ?? [])], lines: sort === 'total' };
    return prepareSeries(frames, style, colors, theme);
  }, [frames, groupBy, sort, colors, theme]);
  const choose = (name: string) => {
    const frame = prepared.find(({ fields }) => fields[1]?.config.displayName === name);
    const chosen = frame?.fields[1]?.labels?.[FUNCTION_LABEL];
    if (chosen) {
      const alone = functions?.length === 1 && functions[0] === chosen;
      setState({ ...showView(state, 'functionSeries'), functions: alone ? undefined : [chosen] });
    }
  };
  return <SeriesChart frames={prepared} timeRange={timeRange} width={width} onChoose={choose} setState={setState} />;
}
