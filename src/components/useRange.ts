import { type TimeRange } from '@grafana/data';
import * as React from 'react';
import { type Range } from '../types';

const HOUR = 60 * 60 * 1000;

/** The range of an editor's completions: the panel's, or the last hour. */
export function useRange(range?: TimeRange): Range {
  const from = range?.from.valueOf();
  const to = range?.to.valueOf();
  return React.useMemo(() => {
    const end = to ?? Date.now();
    return { from: from ?? end - HOUR, to: end };
  }, [from, to]);
}
