import { rangeUtil } from '@grafana/data';
import * as React from 'react';

/**
 * Counts up with every interval, such as 10s; an empty one stands still. A
 * hidden page does not refresh, and does so at once when it is shown again.
 */
export function useClock(interval: string): [tick: number, refresh: () => void] {
  const [tick, setTick] = React.useState(0);
  const refresh = React.useCallback(() => setTick((n) => n + 1), []);

  React.useEffect(() => {
    const ms = interval ? toMs(interval) : 0;
    if (ms <= 0) {
      return;
    }
    let missed = false;
    const onTime = () => {
      missed = document.hidden;
      if (!missed) {
        refresh();
      }
    };
    const onVisible = () => {
      if (missed && !document.hidden) {
        onTime();
      }
    };
    const timer = window.setInterval(onTime, ms);
    document.addEventListener('visibilitychange', onVisible);
    return () => {
      window.clearInterval(timer);
      document.removeEventListener('visibilitychange', onVisible);
    };
  }, [interval, refresh]);

  return [tick, refresh];
}

function toMs(interval: string): number {
  try {
    return Math.max(1000, rangeUtil.intervalToMs(interval));
  } catch {
    return 0;
  }
}
