import { createTheme, type DataFrame, FieldType, toDataFrame } from '@grafana/data';
import { describe, expect, it } from 'vitest';
import { hasValues, prepareSeries, SeriesColors } from './series';

const theme = createTheme();
const BY_SERVICE = { labels: ['service_name'] };

function frame(service: string, points: Array<[number, number]>): DataFrame {
  return toDataFrame({
    fields: [
      { name: 'time', type: FieldType.time, values: points.map(([time]) => time) },
      {
        name: 'cpu',
        type: FieldType.number,
        labels: { service_name: service },
        values: points.map(([, value]) => value),
        config: { unit: 'cores' },
      },
    ],
  });
}

const summary = (frames: DataFrame[]) =>
  frames.map(({ fields: [time, value] }) => [value?.config.displayName, time?.values, value?.values]);

describe('prepareSeries', () => {
  it('draws the only point of a series', () => {
    const show = (points: Array<[number, number]>) =>
      prepareSeries([frame('a', points)], BY_SERVICE, new SeriesColors(), theme)[0]?.fields[1]?.config.custom.showPoints;
    expect(show([[1000, 1]])).toBe('always');
    expect(
      show([
        [1000, 1],
        [2000, 1],
      ])
    ).toBe('never');
  });

  it('puts the largest first, fills gaps with 0 and leaves out what used nothing', () => {
    const frames = [
      frame('small', [[1000, 1]]),
      frame('idle', [[1000, 0]]),
      frame('large', [
        [1000, 2],
        [2000, 3],
      ]),
    ];
    expect(summary(prepareSeries(frames, BY_SERVICE, new SeriesColors(), theme))).toEqual([
      ['large', [1000, 2000], [2, 3]],
      ['small', [1000, 2000], [1, 0]],
    ]);
  });

  it('keeps the colour of a series when others come and go', () => {
    const colors = new SeriesColors();
    const color = (frames: DataFrame[]) =>
      prepareSeries(frames, BY_SERVICE, colors, theme).map(({ fields }) => fields[1]?.state?.seriesIndex);
    const [a, b] = [frame('a', [[1, 2]]), frame('b', [[1, 1]])];
    expect(color([a, b])).toEqual([0, 1]);
    expect(color([b])).toEqual([1]);
  });

  it('shows values with their unit', () => {
    const [prepared] = prepareSeries([frame('a', [[1, 2]])], BY_SERVICE, new SeriesColors(), theme);
    const display = prepared?.fields[1]?.display?.(1.5);
    expect(`${display?.text}${display?.suffix}`).toBe('1.50 cores');
  });
});

it('knows empty frames', () => {
  expect(hasValues([])).toBe(false);
  expect(hasValues([frame('a', [[1, 0]])])).toBe(false);
  expect(hasValues([frame('a', [[1, 0.1]])])).toBe(true);
});
