import { expect, it } from 'vitest';
import { isDuration } from './duration';

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
