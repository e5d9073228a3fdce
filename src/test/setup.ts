// What Grafana's packages expect of a browser and jsdom does not have.
Object.assign(window, {
  matchMedia: (media: string) => ({
    media,
    matches: false,
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  }),
  grafanaBootData: { settings: { featureToggles: {} }, user: {}, navTree: [] },
});
