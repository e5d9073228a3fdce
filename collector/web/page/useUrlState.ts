import * as React from 'react';
import { formatState, type PageState, parseState } from './urlState';

export type SetState = (change: Partial<PageState>, replace?: boolean) => void;

/** The state in the URL. A change makes a step back in the history, unless it replaces. */
export function useUrlState(): [PageState, SetState] {
  const search = React.useSyncExternalStore(subscribe, () => window.location.search);
  const state = React.useMemo(() => parseState(search), [search]);
  const setState = React.useCallback<SetState>((change, replace = false) => {
    const next = formatState({ ...parseState(window.location.search), ...change });
    if (next === window.location.search) {
      return;
    }
    if (replace) {
      window.history.replaceState(null, '', next);
    } else {
      window.history.pushState(null, '', next);
    }
    window.dispatchEvent(new PopStateEvent('popstate'));
  }, []);
  return [state, setState];
}

function subscribe(onChange: () => void): () => void {
  window.addEventListener('popstate', onChange);
  return () => window.removeEventListener('popstate', onChange);
}
