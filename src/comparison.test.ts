import { readFileSync } from 'node:fs';
import { type DataFrame, type DataFrameJSON, dataFrameFromJSON } from '@grafana/data';
import { checkFields } from '@grafana/flamegraph';
import { expect, it } from 'vitest';

/** The frame that the backend's test holds it to. */
function golden(): DataFrame {
  return dataFrameFromJSON(JSON.parse(readFileSync('pkg/query/testdata/comparison.json', 'utf8')) as DataFrameJSON);
}

it('gives a frame that the flame graph of Grafana draws as a comparison', () => {
  const frame = golden();
  expect(checkFields(frame)).toBeUndefined();
  expect(frame.meta?.preferredVisualisationType).toBe('flamegraph');
  // With both of these fields, Grafana takes value and self for the baseline.
  const numbers = (name: string) => frame.fields.find((field) => field.name === name)?.values;
  expect(numbers('valueRight')?.[0]).toBe(3500);
  expect(numbers('selfRight')?.[0]).toBe(0);
  expect(numbers('value')?.[0]).toBe(2200);
});
