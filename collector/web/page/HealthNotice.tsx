import { Alert } from '@grafana/ui';
import * as React from 'react';
import { getHealth, type Health } from './api';

/** The last health check; undefined until there is one. */
export function useHealth(tick = 0): Health | undefined {
  const [health, setHealth] = React.useState<Health>();
  React.useEffect(() => {
    const controller = new AbortController();
    getHealth(controller.signal).then(setHealth, (err: unknown) => {
      if (!controller.signal.aborted) {
        setHealth({ ok: false, message: err instanceof Error ? err.message : String(err) });
      }
    });
    return () => controller.abort();
  }, [tick]);
  return health;
}

/** Says what is wrong with the server, where something is. */
export function HealthNotice({ tick }: { tick: number }) {
  const health = useHealth(tick);
  return health && !health.ok ? (
    <Alert severity="warning" title={health.message} style={{ marginBottom: 0 }} />
  ) : null;
}
