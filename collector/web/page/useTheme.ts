import { createTheme, type GrafanaTheme2 } from '@grafana/data';
import * as React from 'react';
import { type ThemeName } from './urlState';

const DARK = '(prefers-color-scheme: dark)';

/** Grafana's theme of a name, or of what the browser prefers. */
export function useTheme(name?: ThemeName): GrafanaTheme2 {
  const prefersDark = React.useSyncExternalStore(subscribe, () => window.matchMedia(DARK).matches);
  const mode = name ?? (prefersDark ? 'dark' : 'light');
  const theme = React.useMemo(() => createTheme({ colors: { mode } }), [mode]);
  React.useEffect(() => {
    document.documentElement.style.background = theme.colors.background.canvas;
    document.documentElement.style.colorScheme = mode;
    document.body.className = `theme-${mode}`;
  }, [mode, theme]);
  return theme;
}

function subscribe(onChange: () => void): () => void {
  const query = window.matchMedia(DARK);
  query.addEventListener('change', onChange);
  return () => query.removeEventListener('change', onChange);
}
