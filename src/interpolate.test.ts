import { describe, expect, it } from 'vitest';
import { interpolateQuery, interpolateSelector, withFilters } from './interpolate';
import { templates } from './test/templates';

const vars = templates({
  one: { value: 'a.b' },
  multiOne: { value: ['a.b'] },
  many: { value: ['a.b', 'c|d'] },
  quoted: { value: ['say "hi"', 'x'] },
  all: { value: ['x'], allValue: '.*' },
  none: { value: [] },
  ago: { value: '1w' },
  deployed: { value: '1763899200000' },
});

describe('interpolateSelector', () => {
  it.each([
    // In regular expressions, values of multi-value variables are escaped.
    ['{s=~"$many"}', '{s=~"a\\\\.b|c\\\\|d"}'],
    ['{s!~"${many}"}', '{s!~"a\\\\.b|c\\\\|d"}'],
    ['{s=~"$multiOne"}', '{s=~"a\\\\.b"}'],
    ['{s=~"pre-${many}-post"}', '{s=~"pre-(a\\\\.b|c\\\\|d)-post"}'],
    ['{s=~"$one"}', '{s=~"a.b"}'],
    ['{s=~"$all"}', '{s=~".*"}'],
    // An equality with several values becomes a regular expression.
    ['{s="$one"}', '{s="a.b"}'],
    ['{s="$multiOne"}', '{s="a.b"}'],
    ['{s="$many"}', '{s=~"a\\\\.b|c\\\\|d"}'],
    ['{s!="$many"}', '{s!~"a\\\\.b|c\\\\|d"}'],
    ['{s="x.y-${many}"}', '{s=~"x\\\\.y-(a\\\\.b|c\\\\|d)"}'],
    ['{s="$all"}', '{s=~".*"}'],
    ['{s!="$all"}', '{s!~".*"}'],
    ['{s="${one:raw}"}', '{s="a.b"}'],
    ['{s="$none"}', '{s=""}'],
    // Values can't break out of their quotes.
    ['{s="$quoted"}', '{s=~"say \\"hi\\"|x"}'],
    // What is no variable stays.
    ['{s="$unknown", t=~"a.*$"}', '{s="$unknown", t=~"a.*$"}'],
    ['{}', '{}'],
    ['', ''],
  ])('%s becomes %s', (text, expected) => {
    expect(interpolateSelector(text, vars, {})).toBe(expected);
  });

  it('replaces a variable that is no part of a value', () => {
    expect(interpolateSelector('{s="a", $one}', vars, {})).toBe('{s="a", a\\.b}');
  });
});

describe('interpolateQuery', () => {
  it('replaces the variables of every field', () => {
    const query = {
      refId: 'A',
      profileTypeId: '$one',
      labelSelector: '{s=~"$many"}',
      groupBy: ['$many', 'node', '$none'],
      step: '$one',
      limit: 5,
    };
    expect(interpolateQuery(query, vars, {}, [{ key: 'pod', operator: '!=', value: 'p' }])).toEqual({
      refId: 'A',
      profileTypeId: 'a.b',
      labelSelector: '{s=~"a\\\\.b|c\\\\|d", pod!="p"}',
      groupBy: ['a.b', 'c|d', 'node'],
      spanSelector: undefined,
      step: 'a.b',
      limit: 5,
    });
  });
});

describe('interpolateQuery of flame graph options', () => {
  it('replaces variables, of which several values are alternatives', () => {
    const view = { focus: '$many', hide: 'x$many', function: '$one', groupBy: ['$many', 'node'], reverse: true, maxDepth: 3 };
    expect(interpolateQuery({ refId: 'A', profileTypeId: 't', labelSelector: '{}', view }, vars, {}).view).toEqual({
      focus: 'a\\.b|c\\|d',
      hide: 'x(a\\.b|c\\|d)',
      function: 'a.b',
      groupBy: ['a.b', 'c|d', 'node'],
      reverse: true,
      maxDepth: 3,
    });
  });
});

describe('interpolateQuery of a comparison', () => {
  const query = { refId: 'A', queryType: 'comparison' as const, profileTypeId: 't', labelSelector: '{s="$one"}' };
  const filters = [{ key: 'pod', operator: '=', value: 'p' }];

  it('replaces the variables of the baseline', () => {
    const baseline = { kind: 'range' as const, offset: '$ago', from: '$deployed', to: '${deployed}', labelSelector: '{s="$many"}' };
    expect(interpolateQuery({ ...query, baseline }, vars, {}, filters).baseline).toEqual({
      kind: 'range',
      offset: '1w',
      from: '1763899200000',
      to: '1763899200000',
      labelSelector: '{s=~"a\\\\.b|c\\\\|d", pod="p"}',
    });
    expect(baseline.offset).toBe('$ago');
  });

  it('leaves numbers and what is not set', () => {
    const baseline = { kind: 'range' as const, from: 1763899200000, to: 'now' };
    expect(interpolateQuery({ ...query, baseline }, vars, {}, filters).baseline).toEqual(baseline);
    expect(interpolateQuery(query, vars, {}, filters)).not.toHaveProperty('baseline');
  });

  it('passes an empty selector on as unset, without the filters: the baseline then has the selector of the query', () => {
    const baseline = { kind: 'previous' as const, labelSelector: '' };
    expect(interpolateQuery({ ...query, baseline }, vars, {}, filters)).toMatchObject({
      labelSelector: '{s="a.b", pod="p"}',
      baseline: { kind: 'previous', labelSelector: '' },
    });
  });
});

describe('withFilters', () => {
  it.each([
    ['=', 'v', undefined, 'k="v"'],
    ['!=', 'v', undefined, 'k!="v"'],
    ['=~', 'v.*', undefined, 'k=~"v.*"'],
    ['!~', 'v.*', undefined, 'k!~"v.*"'],
    ['=|', 'a.b', ['a.b', 'c'], 'k=~"a\\\\.b|c"'],
    ['!=|', 'a.b', ['a.b', 'c'], 'k!~"a\\\\.b|c"'],
  ])('adds a filter with %s', (operator, value, values, expected) => {
    expect(withFilters('{a="1"}', [{ key: 'k', operator, value, values }])).toBe(`{a="1", ${expected}}`);
  });

  it('adds to an empty selector, and skips a filter without a label', () => {
    const filters = [
      { key: '', operator: '=', value: 'x' },
      { key: 'k', operator: '=', value: 'v' },
    ];
    expect(withFilters('', filters)).toBe('{k="v"}');
  });

  it('refuses an operator that labels do not have', () => {
    expect(() => withFilters('{}', [{ key: 'k', operator: '<', value: '3' }])).toThrow('filter k < 3');
  });
});
