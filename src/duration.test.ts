import { describe, expect, it } from 'vitest';
import { isDuration, isOffset, offsetMs } from './duration';

it.each([
  ['15s', true],
  ['1m30s', true],
  ['500ms', true],
  ['', false],
  ['15', false],
  ['5 seconds', false],
  ['-1s', false],
])('%j is a duration: %s', (text, expected) => {
  expect(isDuration(text)).toBe(expected);
});

describe('isOffset', () => {
  it.each(['1h', '1d', '1w2d', '2h30m', '1500ms', '10y'])('%s is one', (text) => expect(isOffset(text)).toBe(true));
  it.each(['', '0', '0s', '30m2h', '-1d', '1.5h', '1M', '90', 'soon'])('"%s" is none', (text) =>
    expect(isOffset(text)).toBe(false)
  );
});

it.each([
  ['1h', 3_600_000],
  ['1w1d', 691_200_000],
  ['2h30m', 9_000_000],
  ['1m1s1ms', 61_001],
  ['', 0],
])('%j is an offset of %d ms', (text, expected) => expect(offsetMs(text)).toBe(expected));
