import { dateTime } from '@grafana/data';
import * as React from 'react';
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type ProfileDataSource } from '../datasource';
import { selectors } from '../selectors';
import { all, find, input, press, typeInto } from '../test/dom';
import { type Baseline, DEFAULT_PROFILE_TYPE, type ProfileQuery, QUERY_VERSION, type Resources } from '../types';
import { QueryEditor } from './QueryEditor';

const ids = selectors.queryEditor;
const range = {
  from: dateTime('2026-11-23T11:00:00Z'),
  to: dateTime('2026-11-23T12:00:00Z'),
  raw: { from: 'now-1h', to: 'now' },
};

const resources: Resources = {
  profileTypes: async () => [{ id: DEFAULT_PROFILE_TYPE, label: 'process_cpu - cpu' }],
  labelNames: async () => ['service_name', 'version'],
  labelValues: async () => ['1', '2'],
  completeValues: async () => ({ values: ['1', '2'], more: 0 }),
};

let root: Root;
let container: HTMLElement;
/** The query as the editor last changed it. */
let query: ProfileQuery;
const onRunQuery = vi.fn();

/** Shows the editor, and again after each change, as Grafana does. */
function Editor({ initial }: { initial: ProfileQuery }) {
  const [shown, setShown] = React.useState(initial);
  return (
    <QueryEditor
      query={shown}
      datasource={{ resources } as ProfileDataSource}
      range={range}
      onChange={(changed) => {
        query = changed;
        setShown(changed);
      }}
      onRunQuery={onRunQuery}
    />
  );
}

async function show(change: Partial<ProfileQuery>) {
  query = {
    refId: 'A',
    version: QUERY_VERSION,
    queryType: 'profile',
    profileTypeId: DEFAULT_PROFILE_TYPE,
    labelSelector: '{service_name="order", version="2"}',
    groupBy: [],
    ...change,
  };
  await act(async () => root.render(<Editor initial={query} />));
}

const showBaseline = (baseline?: Baseline) => show({ queryType: 'comparison', baseline });

/** Clicks the option of a radio group with a label. */
async function choose(testId: string, label: string, within?: ParentNode) {
  const option = [...find(testId, within).querySelectorAll('input')].find(
    (radio) => radio.parentElement?.querySelector('label')?.textContent?.trim() === label
  );
  if (!option) {
    throw new Error(`${testId} does not offer ${label}`);
  }
  await act(async () => option.click());
}

/** Types into a select and takes the first option that is left. */
async function select(testId: string, label: string) {
  await act(async () => input(testId).click());
  await typeInto(input(testId), label);
  await press(input(testId), 'ArrowDown');
  await press(input(testId), 'Enter');
}

/** The messages at the fields of the baseline. */
const alerts = () => [...find(ids.baseline).querySelectorAll('[role="alert"]')].map((a) => a.textContent?.trim());

// The editor has many selects, which take their time on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  container = document.body.appendChild(document.createElement('div'));
  root = createRoot(container);
});

afterEach(async () => {
  await act(async () => root.unmount());
  container.remove();
  onRunQuery.mockClear();
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: false });
});

describe('the query type', () => {
  it('offers a comparison, which begins with the previous window', async () => {
    await show({});
    expect(all(ids.baseline)).toHaveLength(0);
    await select(ids.queryType, 'Comparison');
    expect(query).toMatchObject({ queryType: 'comparison', baseline: { kind: 'previous' } });
    expect(onRunQuery).toHaveBeenCalledTimes(1);
    expect(input(ids.baselineKind).value).toBe('Previous window');
    expect(alerts()).toEqual([]);
  });

  it('shows the options of flame graphs for a comparison, and not those of series', async () => {
    await showBaseline({ kind: 'previous' });
    for (const shown of [ids.unit, ids.maxNodes, ids.baseline]) {
      expect(all(shown)).toHaveLength(1);
    }
    for (const hidden of [ids.groupBy, ids.limit, ids.step]) {
      expect(all(hidden)).toHaveLength(0);
    }
  });

  it('keeps the baseline while another type is chosen', async () => {
    await showBaseline({ kind: 'offset', offset: '1w' });
    await select(ids.queryType, 'Flame graph');
    expect(all(ids.baseline)).toHaveLength(0);
    await select(ids.queryType, 'Comparison');
    expect(query.baseline).toEqual({ kind: 'offset', offset: '1w' });
  });

  it('shows a comparison without a baseline as the backend reads it', async () => {
    await showBaseline(undefined);
    expect(input(ids.baselineKind).value).toBe('Previous window');
  });
});

describe('functions', () => {
  it('have an order, a limit and a unit, and no options of flame graphs or series', async () => {
    await show({});
    await select(ids.queryType, 'Table of functions');
    expect(query.queryType).toBe('functions');
    for (const shown of [ids.sort, ids.compare, ids.limit, ids.unit]) {
      expect(all(shown)).toHaveLength(1);
    }
    for (const hidden of [ids.maxNodes, ids.groupBy, ids.step, ids.baseline]) {
      expect(all(hidden)).toHaveLength(0);
    }
    await choose(ids.sort, 'Total');
    expect(query.sort).toBe('total');
    await typeInto(input(ids.limit), '20');
    await press(input(ids.limit), 'Enter');
    expect(query.limit).toBe(20);
  });

  it('over time have the options of series, and names', async () => {
    await show({ functions: ['main.encode'] });
    await select(ids.queryType, 'Functions over time');
    expect(query).toMatchObject({ queryType: 'functionSeries', functions: ['main.encode'] });
    for (const shown of [ids.sort, ids.functions, ids.groupBy, ids.limit, ids.step]) {
      expect(all(shown)).toHaveLength(1);
    }
    for (const hidden of [ids.maxNodes, ids.unit, ids.compare, ids.baseline]) {
      expect(all(hidden)).toHaveLength(0);
    }
    await select(ids.functions, 'main.parse');
    expect(query.functions).toEqual(['main.encode', 'main.parse']);
  });

  it('and labels explain a change from a baseline', async () => {
    await show({});
    await select(ids.queryType, 'Explain');
    expect(query).toMatchObject({ queryType: 'explain', baseline: { kind: 'previous' } });
    for (const shown of [ids.baseline, ids.limit, ids.unit]) {
      expect(all(shown)).toHaveLength(1);
    }
    for (const hidden of [ids.maxNodes, ids.groupBy, ids.step, ids.compare, ids.sort]) {
      expect(all(hidden)).toHaveLength(0);
    }
  });

  it('are compared with a baseline if one is wanted', async () => {
    await show({ queryType: 'functions' });
    await choose(ids.compare, 'Baseline');
    expect(query.baseline).toEqual({ kind: 'previous' });
    expect(input(ids.baselineKind).value).toBe('Previous window');
    await choose(ids.compare, 'Nothing');
    expect(query.baseline).toBeUndefined();
    expect(all(ids.baseline)).toHaveLength(0);
  });
});

describe('a heat map', () => {
  it('has rows by label, with a limit and a step', async () => {
    await show({});
    await select(ids.queryType, 'Heat map');
    expect(query.queryType).toBe('heatmap');
    for (const shown of [ids.heatmapRows, ids.groupBy, ids.limit, ids.step]) {
      expect(all(shown)).toHaveLength(1);
    }
    for (const hidden of [ids.maxNodes, ids.unit, ids.sort, ids.compare, ids.baseline, ids.rowHeight]) {
      expect(all(hidden)).toHaveLength(0);
    }
    expect(input(ids.groupBy).placeholder).toBe('service_name');
    await select(ids.groupBy, 'version');
    expect(query.groupBy).toEqual(['version']);
  });

  it('has rows by offset, with a height', async () => {
    await show({ queryType: 'heatmap' });
    await choose(ids.heatmapRows, 'Offset in the second');
    expect(query.heatmap).toBe('offset');
    expect(all(ids.groupBy)).toHaveLength(0);
    expect(all(ids.limit)).toHaveLength(0);
    expect(input(ids.rowHeight).value).toBe('20 ms');
    await select(ids.rowHeight, '100 ms');
    expect(query.rows).toBe(10);
  });
});

describe('the time of a baseline', () => {
  it('begins an offset with a day', async () => {
    await showBaseline({ kind: 'previous' });
    await select(ids.baselineKind, 'Earlier');
    expect(query.baseline).toEqual({ kind: 'offset', offset: '1d' });
    expect(input(ids.baselineOffset).value).toBe('1d');
    await select(ids.baselineOffset, '1w');
    expect(query.baseline).toEqual({ kind: 'offset', offset: '1w' });
    await select(ids.baselineOffset, '2h30m');
    expect(query.baseline).toEqual({ kind: 'offset', offset: '2h30m' });
    expect(alerts()).toEqual([]);
  });

  it('says what is wrong with an offset', async () => {
    await showBaseline({ kind: 'offset', offset: 'soon' });
    expect(alerts()).toEqual(['An offset is a duration such as 1h, 1d or 2h30m, the largest unit first']);
  });

  it('begins a range with the window before', async () => {
    await showBaseline({ kind: 'previous' });
    await select(ids.baselineKind, 'Absolute range');
    expect(query.baseline).toEqual({ kind: 'range', from: '2026-11-23T10:00:00.000Z', to: '2026-11-23T11:00:00.000Z' });
    expect(alerts()).toEqual([]);
  });

  it('takes the ends of a range, and says what is wrong with them', async () => {
    await showBaseline({ kind: 'range', from: 1763899200000, to: 'now' });
    expect(input(ids.baselineFrom).value).toBe('1763899200000');
    await typeInto(input(ids.baselineTo), 'yesterday');
    await press(input(ids.baselineTo), 'Enter');
    expect(query.baseline).toEqual({ kind: 'range', from: 1763899200000, to: 'yesterday' });
    expect(alerts()).toEqual(['A time is 2026-11-23T10:00:00Z, now-1d or Unix milliseconds']);
    await typeInto(input(ids.baselineTo), ' $__to ');
    await press(input(ids.baselineTo), 'Enter');
    expect(query.baseline).toEqual({ kind: 'range', from: 1763899200000, to: '$__to' });
    expect(alerts()).toEqual([]);
  });
});

describe('code', () => {
  const showCode = (change: Partial<ProfileQuery> = {}) => show({ editorMode: 'code', ...change });
  const options = () => [...container.querySelectorAll('[role="option"]')].map((o) => o.textContent?.trim());
  const code = () => input(ids.code);

  it('is the query, with a short profile type', async () => {
    await show({});
    await choose(ids.editorMode, 'Code');
    expect(query.editorMode).toBe('code');
    expect(onRunQuery).not.toHaveBeenCalled();
    expect(all(ids.service)).toHaveLength(0);
    expect(code().value).toBe('process_cpu:cpu{service_name="order", version="2"}');
  });

  it('is taken over on Enter', async () => {
    await showCode();
    await typeInto(code(), 'process_cpu:cpu{pod=~"api-.*"}');
    await press(code(), 'Escape');
    await press(code(), 'Enter');
    expect(query).toMatchObject({ profileTypeId: DEFAULT_PROFILE_TYPE, labelSelector: '{pod=~"api-.*"}' });
    expect(query.code).toBeUndefined();
    expect(onRunQuery).toHaveBeenCalledTimes(1);
  });

  it.each([
    ['process_cpu:cpu{pod', 'expected one of =, !=, =~, !~ at position 20'],
    ['heap{}', 'There is no profile type heap in this time range'],
  ])('keeps %s, says what is wrong and does not run it', async (text, problem) => {
    await showCode();
    await typeInto(code(), text);
    await press(code(), 'Escape');
    await press(code(), 'Enter');
    expect(query).toMatchObject({ code: text, labelSelector: '{service_name="order", version="2"}' });
    expect(onRunQuery).not.toHaveBeenCalled();
    expect(code().value).toBe(text);
    expect([...container.querySelectorAll('[role="alert"]')].map((a) => a.textContent?.trim())).toEqual([problem]);
    const builder = find(ids.editorMode).querySelector('input');
    expect(builder?.disabled).toBe(true);
  });

  it('is completed by keyboard', async () => {
    await showCode({ labelSelector: '{}' });
    await typeInto(code(), 'process_cpu:cpu{ver');
    expect(options()).toEqual(['version']);
    await press(code(), 'Tab');
    expect(code().value).toBe('process_cpu:cpu{version');
    await typeInto(code(), 'process_cpu:cpu{version="');
    expect(options()).toEqual(['1', '2']);
    await press(code(), 'ArrowDown');
    await press(code(), 'Enter');
    expect(code().value).toBe('process_cpu:cpu{version="2"');
    expect(options()).toEqual([]);
    await typeInto(code(), 'process_cpu:cpu{version="2"}');
    await press(code(), 'Enter');
    expect(query.labelSelector).toBe('{version="2"}');
  });
});

describe('the labels of a baseline', () => {
  it('are those of the query until others are wanted', async () => {
    await showBaseline({ kind: 'previous' });
    const section = () => find(ids.baseline);
    expect(all(ids.filterValue, section())).toHaveLength(0);
    await choose(ids.baselineLabels, 'Other');
    expect(query.baseline).toEqual({ kind: 'previous', labelSelector: query.labelSelector });
    expect(all(ids.filterValue, section())).toHaveLength(1);
    expect(all(ids.service, section())).toHaveLength(1);
    await choose(ids.baselineLabels, 'Of the query');
    expect(query.baseline?.labelSelector).toBeUndefined();
    expect(all(ids.filterValue, section())).toHaveLength(0);
  });

  it('have to differ in the same window', async () => {
    await showBaseline({ kind: 'previous' });
    await select(ids.baselineKind, 'Same window');
    expect(query.baseline?.kind).toBe('same');
    expect(alerts()).toEqual(['Of the same time, the baseline needs other labels than the query']);
    expect(all(ids.baselineLabels)).toHaveLength(0);

    await choose(ids.selectorMode, 'Text', find(ids.baseline));
    const text = find(ids.selectorText, find(ids.baseline)) as HTMLInputElement;
    expect(text.value).toBe('{service_name="order", version="2"}');
    await typeInto(text, '{service_name="order", version="1"}');
    await press(text, 'Enter');
    expect(query).toMatchObject({
      labelSelector: '{service_name="order", version="2"}',
      baseline: { kind: 'same', labelSelector: '{service_name="order", version="1"}' },
    });
    expect(alerts()).toEqual([]);
  });

  it('say what is wrong with their selector', async () => {
    await showBaseline({ kind: 'previous', labelSelector: '{pod' });
    expect(alerts()).toEqual(['expected one of =, !=, =~, !~ at position 5']);
    expect(container.querySelectorAll('[role="alert"]')).toHaveLength(1);
  });
});

describe('fields of the Pyroscope data source', () => {
  it('are named, and a click removes one', async () => {
    await show({
      spanSelector: ['9a517183f26a089d'],
      profileIdSelector: ['7c9e'],
      annotations: true,
      includeExemplars: true,
      includeHeatmap: true,
      heatmapType: 'span',
    });
    const buttons = () => [...find(ids.foreign).querySelectorAll('button')];
    expect(buttons().map((button) => button.textContent)).toEqual([
      'Only the spans 9a517183f26a089d',
      'Only the profiles 7c9e',
      'Annotations of the series',
      'Exemplars (not shown by this data source)',
      'Heat map of profiles or spans (not shown by this data source)',
    ]);
    for (const button of [buttons()[4], buttons()[0]]) {
      await act(async () => button?.click());
    }
    expect(query).toMatchObject({ includeHeatmap: undefined, heatmapType: undefined, spanSelector: undefined, annotations: true });
    expect(buttons()).toHaveLength(3);
  });

  it('take no place where there are none', async () => {
    await show({ spanSelector: [], annotations: false });
    expect(all(ids.foreign)).toHaveLength(0);
  });
});
