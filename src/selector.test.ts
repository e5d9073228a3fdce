import { describe, expect, it } from 'vitest';
import cases from '../pkg/profile/testdata/selectors.json';
import {
  escapeRegex,
  formatSelector,
  parseSelector,
  SelectorError,
  tryParseSelector,
  validateSelector,
  withMatcher,
} from './selector';

describe('parseSelector', () => {
  it.each(['', '  ', '{}', ' { } '])('finds no matcher in %j', (text) => {
    expect(parseSelector(text)).toEqual([]);
  });

  // Go's tests read the same cases (pkg/profile/type_test.go).
  it.each(cases)('reads $selector as the server does', ({ selector, matchers }) => {
    const read = tryParseSelector(selector);
    expect(read?.map(({ name, op, value }) => [name, op, value]) ?? null).toEqual(matchers);
    expect(read && parseSelector(formatSelector(read))).toEqual(read);
  });

  it('reads every operator', () => {
    expect(parseSelector('{a="1", b!="2",c=~"3.*" , d!~`4\\d`,}')).toEqual([
      { name: 'a', op: '=', value: '1' },
      { name: 'b', op: '!=', value: '2' },
      { name: 'c', op: '=~', value: '3.*' },
      { name: 'd', op: '!~', value: '4\\d' },
    ]);
  });

  it('unescapes values and reads quoted names', () => {
    expect(parseSelector(`{"service.name"="a\\"b\\\\c\\nd", x='it\\'s \\u00e9\\x41'}`)).toEqual([
      { name: 'service.name', op: '=', value: 'a"b\\c\nd' },
      { name: 'x', op: '=', value: "it's éA" },
    ]);
  });

  it('reads names as the server does', () => {
    expect(parseSelector('{k8s.pod.name="a", app.kubernetes.io/name=\'b\', `c d`="e"}')).toEqual([
      { name: 'k8s.pod.name', op: '=', value: 'a' },
      { name: 'app.kubernetes.io/name', op: '=', value: 'b' },
      { name: 'c d', op: '=', value: 'e' },
    ]);
  });

  it('reads every escape of PromQL', () => {
    expect(parseSelector('{a="\\a\\b\\f\\v\\101\\U0001F600", b=`c\n\\d`}')).toEqual([
      { name: 'a', op: '=', value: '\x07\b\f\vA😀' },
      { name: 'b', op: '=', value: 'c\n\\d' },
    ]);
  });

  it.each([
    ['{a="b\nc"}', 'quote is not closed at position 4'],
    ['{a="\\\'"}', "unknown escape \\' at position 6"],
    ['service_name="a"', 'unexpected "=" at position 13'],
    ['{a="1"', 'expected "," or "}" at position 7'],
    ['{a="1}', 'quote is not closed at position 4'],
    ['{a=1}', 'expected a value in quotes at position 4'],
    ['{a>"1"}', 'expected one of =, !=, =~, !~ at position 3'],
    ['{="1"}', 'expected a label name at position 2'],
    ['{,}', 'expected a label name at position 2'],
    ['{a="\\q"}', 'unknown escape \\q at position 6'],
    ['{a="\\UFFFFFFFF"}', 'no such character at position 6'],
    ['{a="1"} or {}', 'unexpected "o" at position 9'],
  ])('says what is wrong with %s', (text, message) => {
    expect(() => parseSelector(text)).toThrow(SelectorError);
    expect(validateSelector(text)).toBe(message);
  });
});

describe('formatSelector', () => {
  it('writes what parseSelector reads', () => {
    const matchers = [
      { name: 'service_name', op: '=', value: 'a "quoted" \\ back\nslash\t' },
      { name: 'service.name', op: '!~', value: '^é$' },
      { name: '1st', op: '!=', value: '' },
    ] as const;
    const text = formatSelector([...matchers]);
    expect(text).toBe(
      '{service_name="a \\"quoted\\" \\\\ back\\nslash\\t", "service.name"!~"^é$", "1st"!=""}'
    );
    expect(parseSelector(text)).toEqual(matchers);
  });
});

describe('withMatcher', () => {
  const rest = { name: 'node', op: '=', value: 'n1' } as const;

  it('replaces every matcher of the label and leaves the others', () => {
    const matchers = parseSelector('{service_name=~"a.*", node="n1", service_name!="ab"}');
    const service = { name: 'service_name', op: '=', value: 'b' } as const;
    expect(withMatcher(matchers, service)).toEqual([service, rest]);
  });

  it('removes the label where the value is empty', () => {
    const matchers = parseSelector('{service_name="a", node="n1"}');
    expect(withMatcher(matchers, { name: 'service_name', op: '=', value: '' })).toEqual([rest]);
  });
});

it('escapes what a regular expression would not take literally', () => {
  const text = 'a.b*c+d?(e)[f]{g}|h^i$j\\k-l';
  expect(new RegExp(`^${escapeRegex(text)}$`).test(text)).toBe(true);
  expect(escapeRegex('a-b/c')).toBe('a-b/c');
});
