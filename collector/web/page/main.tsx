import { initPluginTranslations } from '@grafana/i18n';
import * as React from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';

// Grafana's components ask for their texts through its translations.
void initPluginTranslations('grafana-ui', []).then(() => {
  const root = document.getElementById('root');
  if (root) {
    createRoot(root).render(<App />);
  }
});
