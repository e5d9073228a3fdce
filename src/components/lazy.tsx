import { t } from '@grafana/i18n';
import { LoadingPlaceholder } from '@grafana/ui';
import * as React from 'react';

/** A component whose code is loaded when it is first shown. */
function lazy<P extends object>(load: () => Promise<React.ComponentType<P>>): React.ComponentType<P> {
  const Loaded = React.lazy(async () => ({ default: await load() })) as unknown as React.ComponentType<P>;
  return function Lazy(props: P) {
    return (
      <React.Suspense fallback={<LoadingPlaceholder text={t('lazy.loading', 'Loading the editor…')} />}>
        <Loaded {...props} />
      </React.Suspense>
    );
  };
}

/** The editors, which dashboards that are only viewed do not need. */
export const LazyConfigEditor = lazy(async () => (await import('./ConfigEditor')).ConfigEditor);
export const LazyQueryEditor = lazy(async () => (await import('./QueryEditor')).QueryEditor);
export const LazyVariableEditor = lazy(async () => (await import('./VariableEditor')).VariableEditor);
