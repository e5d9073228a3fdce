import * as React from 'react';

export interface Async<T> {
  value?: T;
  error?: string;
  loading: boolean;
}

/**
 * Runs load now and when it changes (callers memoize it); the answer of an
 * earlier run is dropped. The last value stays until the next one is there.
 */
export function useAsync<T>(load: () => Promise<T>): Async<T> {
  const [state, setState] = React.useState<Async<T>>({ loading: true });
  React.useEffect(() => {
    let current = true;
    setState((previous) => ({ ...previous, loading: true }));
    load().then(
      (value) => current && setState({ value, loading: false }),
      (err: unknown) => current && setState((previous) => ({ ...previous, error: message(err), loading: false }))
    );
    return () => {
      current = false;
    };
  }, [load]);
  return state;
}

/** The message of an error as Grafana's backend service and fetch throw it. */
export function message(err: unknown): string {
  if (typeof err === 'object' && err !== null) {
    if ('data' in err && typeof err.data === 'object' && err.data !== null) {
      const data = err.data as { message?: unknown; error?: unknown };
      const text = data.error ?? data.message;
      if (typeof text === 'string') {
        return text;
      }
    }
    if ('message' in err && typeof err.message === 'string') {
      return err.message;
    }
    if ('statusText' in err && typeof err.statusText === 'string') {
      return err.statusText;
    }
  }
  return String(err);
}
