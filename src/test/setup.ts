// What Grafana's packages expect of a browser and jsdom does not have.
Object.defineProperty(window, 'matchMedia', {
  value: (media: string) => ({ media, matches: false, addEventListener: () => undefined, removeEventListener: () => undefined }),
});
Object.defineProperty(window, 'grafanaBootData', { value: { settings: { featureToggles: {} }, user: {}, navTree: [] } });
