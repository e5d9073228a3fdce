import { createTheme, dateTime, FieldType, toDataFrame } from '@grafana/data';
import * as React from 'react';
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { selectors } from '../../../src/selectors';
import { type Block, blocks, cellAt, colorOf, heatColors, namedRows, readHeatmap, shorten } from './heatmap';
import { HeatmapView } from './HeatmapView';
import { DEFAULT_STATE, type PageState } from './urlState';

const STEP = 15_000;

/** A heat map as pkg/dataframe gives it, of rows from the bottom up. */
function frame(ends: number[], rows: Record<string, Array<number | null>>) {
  return toDataFrame({
    fields: [
      { name: 'time', type: FieldType.time, values: ends, config: { interval: STEP } },
      ...Object.entries(rows).map(([pod, values]) => ({
        name: 'cpu',
        type: FieldType.number,
        labels: { pod },
        values,
        config: { displayNameFromDS: pod, unit: 'cores' },
      })),
    ],
  });
}

const theme = createTheme({ colors: { mode: 'dark' } });

describe('a heat map', () => {
  it('is read from its data frame', () => {
    const map = readHeatmap(frame([STEP, 2 * STEP], { a: [0.5, null], b: [0, 2] }), theme);
    expect(map).toMatchObject({ ends: [STEP, 2 * STEP], step: STEP, max: 2 });
    expect(map.rows).toEqual([
      { name: 'a', labels: { pod: 'a' }, values: [0.5, null] },
      { name: 'b', labels: { pod: 'b' }, values: [0, 2] },
    ]);
    expect(map.format(0.5)).toBe('0.500 cores');
    expect(readHeatmap(undefined, theme)).toMatchObject({ ends: [], rows: [], max: 0 });
  });

  it.each<[string, number, number, [number, number] | undefined]>([
    ['a column ends at its time', 2 * STEP, 0.5, [1, 0]],
    ['and begins after that of the one before', STEP + 1, 1.999, [1, 1]],
    ['before the first column', 0, 0.5, undefined],
    ['after the last one', 2 * STEP + 1, 0.5, undefined],
    ['above the rows', STEP, 2, undefined],
    ['below the rows', STEP, -0.01, undefined],
  ])('%s', (_, time, height, expected) => {
    const map = readHeatmap(frame([STEP, 2 * STEP], { a: [1, 1], b: [1, 1] }), theme);
    expect(cellAt(map, time, height)).toEqual(expected && { column: expected[0], row: expected[1] });
  });

  it.each<[string, Array<number | null>, number[], Block[]]>([
    ['no columns', [], [0], []],
    ['wide columns', [1, null], [0, 5, 10], [{ left: 0, right: 5, value: 1 }, { left: 5, right: 10, value: null }]],
    ['the largest of a pixel', [1, 3, null, 2], [0, 0, 0, 1, 2], [{ left: 0, right: 1, value: 3 }, { left: 1, right: 2, value: 2 }]],
    ['a value beside nothing', [null, 0], [4, 4, 4], [{ left: 4, right: 5, value: 0 }]],
  ])('has blocks: %s', (_, values, edges, expected) => {
    expect(blocks(values, edges)).toEqual(expected);
  });

  it('keeps the peaks of 5,000 columns', () => {
    const values = Array.from({ length: 5000 }, (_, i) => (i % 97 === 0 ? 9 : 1));
    const edges = Array.from({ length: 5001 }, (_, i) => Math.round(i / 5));
    const found = blocks(values, edges);
    expect(found.length).toBeLessThanOrEqual(1001);
    expect(found.filter(({ value }) => value === 9)).toHaveLength(Math.ceil(5000 / 97));
    expect(found.every(({ left, right }) => right > left)).toBe(true);
  });

  it('has colours of the theme, from the panel to a strong one', () => {
    for (const mode of ['light', 'dark'] as const) {
      const colors = heatColors('hot', createTheme({ colors: { mode } }));
      expect(new Set(colors).size).toBe(colors.length);
      expect([colorOf(colors, 0, 2), colorOf(colors, 2, 2)]).toEqual([colors[0], colors.at(-1)]);
      expect(colorOf(colors, 0, 0)).toBe(colors[0]);
      expect(colorOf(colors, 9, 2)).toBe(colors.at(-1));
    }
    expect(heatColors('hot', theme)).not.toEqual(heatColors('cold', theme));
  });

  it('names as many rows as there is room for', () => {
    expect(namedRows(3, 20, 14)).toEqual([0, 1, 2]);
    expect(namedRows(50, 8, 14)).toHaveLength(25);
    expect(namedRows(100, 3, 14)).toEqual([0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95]);
    expect(namedRows(0, 20, 14)).toEqual([]);
    expect(shorten('order-5d8f7c-abcde', 9)).toBe('orde…bcde');
    expect(shorten('order', 9)).toBe('order');
  });
});

describe('HeatmapView', () => {
  const range = { from: 0, to: 4 * STEP };
  const timeRange = { from: dateTime(0), to: dateTime(range.to), raw: { from: dateTime(0), to: dateTime(range.to) } };
  const setState = vi.fn();
  let root: Root;
  let container: HTMLElement;
  let drawn: Array<{ color: string; rect: number[] }>;

  beforeEach(() => {
    Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
    drawn = [];
    // A context that keeps what cells are drawn with; jsdom has none.
    const context: Record<string, unknown> = {
      fillStyle: '',
      measureText: (text: string) => ({ width: 8 * text.length }),
      fillRect: (...rect: number[]) => drawn.push({ color: String(context['fillStyle']), rect }),
    };
    const any = new Proxy(context, { get: (target, name: string) => target[name] ?? (() => undefined) });
    vi.spyOn(HTMLCanvasElement.prototype, 'getContext').mockReturnValue(any as never);
    // Tooltips watch their size, to stay on the screen.
    vi.stubGlobal('ResizeObserver', class {
      observe() {}
      disconnect() {}
    });
    container = document.body.appendChild(document.createElement('div'));
    root = createRoot(container);
    setState.mockReset();
  });

  afterEach(async () => {
    await act(async () => root.unmount());
    container.remove();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  const show = async (data: ReturnType<typeof frame>, change: Partial<PageState> = {}) => {
    const state = { ...DEFAULT_STATE, queryType: 'heatmap' as const, labelSelector: '{service_name="order"}', ...change };
    drawn = [];
    await act(async () =>
      root.render(
        <HeatmapView state={state} frames={[data]} timeRange={timeRange} range={range} width={1000} setState={setState} />
      )
    );
  };
  const plot = () => container.querySelector<HTMLElement>('.uplot') as HTMLElement;
  const over = () => container.querySelector<HTMLElement>('.u-over') as HTMLElement;
  const mouse = (type: string, clientX: number, clientY: number) =>
    act(async () => {
      const target = type === 'mouseup' ? document : over();
      target.dispatchEvent(new MouseEvent(type, { bubbles: true, clientX, clientY, button: 0 }));
    });
  const press = async (x: number, y: number) => {
    for (const type of ['mousedown', 'mouseup', 'click']) {
      await mouse(type, x, y);
    }
  };
  const size = () => ({ width: parseFloat(over().style.width), height: parseFloat(over().style.height) });

  it.each<[string, number[], number]>([
    ['no column', [], 0],
    ['one column', [STEP], 1],
    ['5,000 columns', Array.from({ length: 5000 }, (_, i) => (i + 1) * STEP), 4],
  ])('draws %s in its row and no other', async (_, ends, least) => {
    await show(frame(ends, { a: ends.map(() => 1), b: ends.map(() => null) }));
    expect(drawn.length).toBeGreaterThanOrEqual(least);
    expect(new Set(drawn.map(({ rect }) => rect[1])).size).toBe(least > 0 ? 1 : 0);
  });

  it('draws a hundred rows, the first at the bottom, and what comes next without losing the focus', async () => {
    const rows = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`pod-${i}`, [i / 99]]));
    await show(frame([STEP], rows));
    expect(drawn).toHaveLength(100);
    const colors = heatColors('hot', createTheme());
    expect([drawn[0]?.color, drawn[99]?.color]).toEqual([colors[0], colors.at(-1)]);
    expect(drawn[0]?.rect[1]).toBeGreaterThan(drawn[99]?.rect[1] ?? Infinity);
    const first = plot();
    first.focus();
    await show(frame([STEP, 2 * STEP], { a: [1, 1] }));
    expect(drawn).toHaveLength(2);
    expect(document.activeElement).toBe(first);
    expect(first.tabIndex).toBe(0);
    expect(first.getAttribute('aria-label')).toContain('Arrow keys');
  });

  it('tells the value of a cell with its unit, and opens its flame graph', async () => {
    await show(frame([STEP, 2 * STEP], { a: [0.5, null], b: [0, 2] }));
    const { width, height } = size();
    await mouse('mouseenter', 1, 1);
    await mouse('mousemove', width * 0.4, height * 0.25); // the second of four steps, the upper row
    const spoken = () => container.querySelector('[role="status"]')?.textContent;
    expect(spoken()).toMatch(/, b: 2 cores$/);
    expect(document.body.textContent).toContain('2 cores');
    await mouse('mousemove', width * 0.4, height * 0.75);
    expect(spoken()).toMatch(/, a: nothing measured$/);
    await press(width * 0.4, height * 0.75);
    const opened = {
      queryType: 'profile',
      limit: undefined,
      from: String(STEP),
      to: String(2 * STEP),
      labelSelector: '{pod="a", service_name="order"}',
    };
    expect(setState).toHaveBeenLastCalledWith(opened);
    setState.mockReset();
    await act(async () => plot().dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true })));
    expect(setState).toHaveBeenLastCalledWith(opened);
    await mouse('mousemove', width * 0.9, height * 0.75); // beside all columns
    expect(spoken()).toBe('');
    setState.mockReset();
    await press(width * 0.9, height * 0.75);
    expect(setState).not.toHaveBeenCalled();
  });

  it('selects a time range by dragging', async () => {
    await show(frame([STEP, 2 * STEP], { a: [1, 1] }));
    const { width, height } = size();
    await mouse('mouseenter', 1, 1);
    await mouse('mousemove', width * 0.25, height / 2);
    await mouse('mousedown', width * 0.25, height / 2);
    await mouse('mousemove', width * 0.75, height / 2);
    await mouse('mouseup', width * 0.75, height / 2);
    expect(setState).toHaveBeenCalledTimes(1);
    const { from, to } = setState.mock.calls[0]?.[0] as { from: string; to: string };
    expect(Math.abs(Number(from) - STEP)).toBeLessThan(STEP / 50);
    expect(Math.abs(Number(to) - 3 * STEP)).toBeLessThan(STEP / 50);
  });

  it('has a scale of its colours', async () => {
    await show(frame([STEP], { a: [1.5] }));
    expect(container.querySelector(`[data-testid="${selectors.page.heatmapScale}"]`)?.textContent).toBe('0 cores1.50 cores');
  });
});
