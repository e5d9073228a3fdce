import { type TimeRange } from '@grafana/data';
import * as React from 'react';
import { type Range } from '../types';

const HOUR = 60 * 60 * 1000;

/** The range of an editor's completions: the panel's, or the last hour. */
export function useRange(range?: TimeRange): Range {
  const [opened] = React.useState(() => Date.now());
  const to = range?.to.valueOf() ?? opened;
  const from = range?.from.valueOf() ?? to - HOUR;
  return React.useMemo(() => ({ from, to }), [from, to]);
}
