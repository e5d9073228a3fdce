import * as React from 'react';
import { type Range } from '../../../src/types';
import { type Result, runQuery, type SizedQuery } from './api';

export interface QueryState {
  /** The last result; it stays while the next one is loaded. */
  result?: Result;
  error?: string;
  loading: boolean;
}

interface Answer {
  key: string;
  result?: Result;
  error?: string;
}

/**
 * Runs a query now and whenever it or its range changes. A new run cancels
 * the one before. An undefined query is not run.
 */
export function useQuery(query: SizedQuery | undefined, range: Range): QueryState {
  const [answer, setAnswer] = React.useState<Answer>();
  const key = query ? JSON.stringify([query, range]) : '';

  React.useEffect(() => {
    if (!key) {
      return;
    }
    const [wanted, within] = JSON.parse(key) as [SizedQuery, Range];
    const controller = new AbortController();
    runQuery(wanted, within, controller.signal).then(
      (result) => !controller.signal.aborted && setAnswer({ key, result }),
      (err: unknown) =>
        !controller.signal.aborted &&
        setAnswer((last) => ({ key, result: last?.result, error: err instanceof Error ? err.message : String(err) }))
    );
    return () => controller.abort();
  }, [key]);

  const current = answer?.key === key;
  return { result: answer?.result, error: current ? answer.error : undefined, loading: key !== '' && !current };
}
