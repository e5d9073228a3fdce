import { dateTime, FieldType, toDataFrame } from '@grafana/data';
import * as React from 'react';
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { selectors } from '../../../src/selectors';
import { TableView } from './TableView';
import { DEFAULT_STATE, type PageState } from './urlState';
import './ViewOptions'; // before it is asked for, which may take a while
import { ViewSwitch } from './ViewSwitch';

const range = { from: 1_000_000, to: 2_000_000 };
const timeRange = { from: dateTime(range.from), to: dateTime(range.to), raw: { from: 'now-1h', to: 'now' } };

let root: Root;
let container: HTMLElement;
const setState = vi.fn();

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  vi.stubGlobal('fetch', async () => new Response('[]'));
  container = document.body.appendChild(document.createElement('div'));
  root = createRoot(container);
  setState.mockReset();
});

afterEach(async () => {
  await act(async () => root.unmount());
  container.remove();
  vi.unstubAllGlobals();
});

const button = (name: string) =>
  [...container.querySelectorAll('button')].find((b) => b.textContent === name || b.getAttribute('aria-label') === name);
const click = (element: Element | null | undefined) =>
  act(async () => element?.dispatchEvent(new MouseEvent('click', { bubbles: true })));
const column = (i: number) => [...container.querySelectorAll(`tbody td:nth-child(${i})`)].map((cell) => cell.textContent);

describe('ViewSwitch', () => {
  const show = async (change: Partial<PageState>) => {
    await act(async () => root.render(<ViewSwitch state={{ ...DEFAULT_STATE, ...change }} range={range} setState={setState} />));
    await vi.waitFor(() => expect(container.textContent).toContain('Unit'), 20_000);
  };

  it('names its views, and chooses one with what it needs', async () => {
    await show({});
    const views = [...container.querySelectorAll<HTMLInputElement>(`[data-testid="${selectors.page.view}"] input`)];
    expect(views.map((input) => input.labels?.[0]?.textContent?.trim())).toEqual([
      'Flame graph',
      'Comparison',
      'Functions',
      'Functions over time',
      'Heat map',
      'Explain',
    ]);
    expect(views[0]?.checked).toBe(true);
    await click(views[5]);
    expect(setState).toHaveBeenLastCalledWith({ queryType: 'explain', limit: undefined, baseline: { kind: 'previous' } });
  });

  it('has the fields of a heat map', async () => {
    await act(async () =>
      root.render(<ViewSwitch state={{ ...DEFAULT_STATE, queryType: 'heatmap' }} range={range} setState={setState} />)
    );
    await vi.waitFor(() => expect(container.textContent).toContain('Offset in the second'), 20_000);
    await click(container.querySelectorAll(`[data-testid="${selectors.queryEditor.heatmapRows}"] input`)[1]);
    expect(setState).toHaveBeenLastCalledWith({ heatmap: 'offset' });
  });

  it.each<[string, Partial<PageState>, boolean]>([
    ['a flame graph', { queryType: 'profile' }, false],
    ['a comparison', { queryType: 'comparison' }, true],
    ['functions', { queryType: 'functions' }, false],
    ['functions with a baseline', { queryType: 'functions', baseline: { kind: 'previous' } }, true],
    ['explain', { queryType: 'explain' }, true],
  ])('%s: with the fields of a baseline or without', async (_, change, expected) => {
    await show(change);
    expect(container.querySelector(`[data-testid="${selectors.queryEditor.baseline}"]`) !== null).toBe(expected);
    // The view is chosen once, not by the editor's select, too.
    expect(container.querySelector(`[data-testid="${selectors.queryEditor.queryType}"]`)).toBeNull();
  });
});

describe('TableView', () => {
  const show = (frame: ReturnType<typeof toDataFrame>, change: Partial<PageState>) =>
    act(async () =>
      root.render(
        <TableView
          state={{ ...DEFAULT_STATE, ...change }}
          frames={[frame]}
          timeRange={timeRange}
          range={range}
          width={1000}
          setState={setState}
        />
      )
    );

  it('sorts functions by a column, and leads to one over time', async () => {
    const frame = toDataFrame({
      fields: [
        { name: 'Function', type: FieldType.string, values: ['small.fn', 'large.fn'] },
        { name: 'Own', type: FieldType.number, values: [1e9, 3e9], config: { unit: 'ns' } },
        { name: 'Own change', type: FieldType.number, values: [5e8, -5e8], config: { unit: 'ns' } },
      ],
    });
    await show(frame, { queryType: 'functions', limit: 5 });
    expect(column(1)).toEqual(['small.fn', 'large.fn']);
    expect(column(2)).toEqual(['1 s', '3 s']);
    expect(column(3)).toEqual(['+500 ms', '-500 ms']);
    await click(button('Sort column Own'));
    expect(column(1)).toEqual(['large.fn', 'small.fn']);
    expect(container.querySelectorAll('th')[1]?.getAttribute('aria-sort')).toBe('descending');
    await click(button('large.fn'));
    expect(setState).toHaveBeenLastCalledWith({ queryType: 'functionSeries', limit: undefined, functions: ['large.fn'] });
  });

  it('says what changed, and leads to a value of a label', async () => {
    const frame = toDataFrame({
      meta: { custom: { explanation: 'From 1 s to 3 s, a rise of 2 s.' } },
      fields: [
        { name: 'By', type: FieldType.string, values: ['function', 'function', 'pod', 'pod'] },
        { name: 'Name', type: FieldType.string, values: ['main', '(all other functions)', 'api-1', '(none)'] },
        { name: 'Change', type: FieldType.number, values: [2e9, 0, 2e9, 0], config: { unit: 'ns' } },
      ],
    });
    await show(frame, { queryType: 'explain', labelSelector: '{service_name="order"}' });
    const sentence = container.querySelector(`[data-testid="${selectors.page.explanation}"]`);
    expect(sentence?.textContent).toBe('From 1 s to 3 s, a rise of 2 s.');
    expect(sentence?.getAttribute('role')).toBe('status');
    expect(button('(all other functions)')).toBeUndefined();
    expect(button('(none)')).toBeUndefined();
    await click(button('api-1'));
    expect(setState).toHaveBeenLastCalledWith({ labelSelector: '{pod="api-1", service_name="order"}' });
  });
});
