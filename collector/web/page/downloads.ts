import { windowBefore } from '../../../src/baseline';
import { offsetMs } from '../../../src/duration';
import { type Baseline, DEFAULT_BASELINE, type Range } from '../../../src/types';
import { type PageState } from './urlState';

/** A file of what is shown. */
export interface Download {
  label: string;
  description: string;
  /** An address of the server, whose answer a browser saves. */
  url: string;
}

/** The formats of the server's /render. */
const FORMATS = [
  { format: 'pprof', label: 'pprof', description: 'All stacktraces, for go tool pprof and others' },
  { format: 'collapsed', label: 'Folded stacks', description: 'A line per stacktrace' },
  { format: 'speedscope', label: 'speedscope', description: 'For speedscope.app' },
  { format: 'svg', label: 'SVG', description: 'A picture of the flame graph' },
  { format: 'html', label: 'HTML', description: 'A page with the flame graph and a table' },
  { format: 'dot', label: 'Graphviz', description: 'The graph of calls, as dot' },
  { format: 'json', label: 'JSON', description: 'The flame graph as Pyroscope gives it' },
];

/** The formats of the server's /render-diff. */
const DIFF_FORMATS = [
  { format: 'collapsed', label: 'Folded stacks', description: 'A line per stacktrace, with both values' },
  { format: 'svg', label: 'SVG', description: 'A picture of the comparison' },
  { format: 'html', label: 'HTML', description: 'A page with the comparison and a table' },
  { format: 'json', label: 'JSON', description: 'The comparison as Pyroscope gives it' },
];

/** The files that the server gives of a state's profiles, of both sides if it compares. */
export function downloads(state: PageState, range: Range): Download[] {
  const { queryType, profileTypeId, labelSelector, baseline = DEFAULT_BASELINE } = state;
  const list = (path: string, formats: typeof FORMATS, params: Record<string, string>) =>
    formats.map(({ format, label, description }) => ({
      label,
      description,
      url: `${path}?${new URLSearchParams({ ...params, format }).toString()}`,
    }));
  const query = profileTypeId + labelSelector;
  const [from, until] = [String(range.from), String(range.to)];
  if (queryType !== 'comparison' && queryType !== 'explain') {
    return list('render', FORMATS, { query, from, until });
  }
  const left = baselineWindow(baseline, range);
  return list('render-diff', DIFF_FORMATS, {
    leftQuery: profileTypeId + (baseline.labelSelector || labelSelector),
    leftFrom: left.from,
    leftUntil: left.to,
    rightQuery: query,
    rightFrom: from,
    rightUntil: until,
  });
}

/** The time of a baseline in forms that the server reads. */
function baselineWindow(baseline: Baseline, range: Range): { from: string; to: string } {
  switch (baseline.kind) {
    case 'previous':
      return windowBefore(range);
    case 'offset': {
      const offset = offsetMs(baseline.offset ?? '');
      return { from: String(range.from - offset), to: String(range.to - offset) };
    }
    case 'range':
      return { from: String(baseline.from ?? ''), to: String(baseline.to ?? '') };
    case 'same':
      return { from: String(range.from), to: String(range.to) };
  }
}
