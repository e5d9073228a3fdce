import { type QueryType } from '../../../src/types';

/** What the page shows below the chart: query types of the data source. */
export const VIEWS = [
  { value: 'profile', label: 'Flame graph', description: 'Where the resource went, by function' },
  { value: 'comparison', label: 'Comparison', description: 'A flame graph compared with a baseline' },
  { value: 'functions', label: 'Functions', description: 'The functions that use most, as a table' },
  { value: 'functionSeries', label: 'Functions over time', description: 'A series for each of some functions' },
  { value: 'heatmap', label: 'Heat map', description: 'How much was used over time, by label or by offset in the second' },
  { value: 'explain', label: 'Explain', description: 'Which functions and labels account for a change' },
] as const satisfies ReadonlyArray<{ value: QueryType; label: string; description: string }>;

export type View = (typeof VIEWS)[number]['value'];

/** The view of a name; the flame graph for one that the page does not have. */
export function asView(name: string | null): View {
  return VIEWS.find(({ value }) => value === name)?.value ?? 'profile';
}
