import { AbstractLabelOperator } from '@grafana/data';
import { describe, expect, it } from 'vitest';
import { fromAbstractQuery, toAbstractQuery } from './abstractQuery';

const { Equal, NotEqual, EqualRegEx, NotEqualRegEx } = AbstractLabelOperator;

function imported(matchers: Array<[string, AbstractLabelOperator, string]>, known?: string[]): string {
  const labelMatchers = matchers.map(([name, operator, value]) => ({ name, operator, value }));
  return fromAbstractQuery({ refId: 'A', labelMatchers }, known).labelSelector;
}

describe('fromAbstractQuery', () => {
  it('takes over labels that profiles have and leaves out the rest', () => {
    const matchers: Array<[string, AbstractLabelOperator, string]> = [
      ['__name__', Equal, 'process_cpu_seconds_total'],
      ['namespace', EqualRegEx, 'prod.*'],
      ['pod', NotEqual, 'a'],
      ['instance', NotEqualRegEx, 'b:.*'],
      ['mode', Equal, 'user'],
      ['le', Equal, '0.5'],
    ];
    expect(imported(matchers)).toBe('{namespace=~"prod.*", pod!="a", instance!~"b:.*"}');
  });

  it('asks the server which labels there are', () => {
    expect(imported([['team', Equal, 'x'], ['pod', Equal, 'y']], ['service_name', 'team'])).toBe('{team="x"}');
  });

  it('maps the names of other sources', () => {
    const matchers: Array<[string, AbstractLabelOperator, string]> = [
      ['job', Equal, 'orders'],
      ['kubernetes_pod_name', Equal, 'p'],
    ];
    expect(imported(matchers, ['service_name', 'pod'])).toBe('{service_name="orders", pod="p"}');
    expect(imported(matchers, ['service_name', 'job'])).toBe('{job="orders"}');
  });

  it('prefers a label of our name over its alias', () => {
    expect(imported([['app', Equal, 'x'], ['service_name', Equal, 'y']])).toBe('{service_name="y"}');
  });
});

describe('the grouping of PromQL', () => {
  const known = ['service_name', 'namespace', 'pod', 'team'];
  const labelMapping = [{ metrics: 'squad', profiles: 'team' }];
  it.each([
    ['sum by (service_name) (rate(x[1m]))', ['service_name']],
    ['sum(rate(x[1m])) by (pod, namespace)', ['pod', 'namespace']],
    ['topk(3, sum by (kubernetes_pod_name, mode) (rate(x[1m])))', ['pod']],
    ['max by (namespace) (sum by (namespace, pod) (x))', ['namespace']],
    ['sum by (squad, team) (x)', ['team']],
    ['sum by (job) (x)', ['service_name']],
    ['sum without (pod) (x)', []],
    ['sum(x)', []],
    ['sum by (', []],
    ['', []],
  ])('%s', (expression, groupBy) => {
    const query = { refId: 'A', labelMatchers: [] };
    expect(fromAbstractQuery(query, known, { labelMapping }, expression).groupBy).toEqual(groupBy);
  });
});

it('hands matchers on to the next source', () => {
  const labelSelector = '{a="1", b!="2", c=~"3", d!~"4"}';
  expect(toAbstractQuery({ refId: 'A', profileTypeId: 't', labelSelector }).labelMatchers).toEqual([
    { name: 'a', operator: Equal, value: '1' },
    { name: 'b', operator: NotEqual, value: '2' },
    { name: 'c', operator: EqualRegEx, value: '3' },
    { name: 'd', operator: NotEqualRegEx, value: '4' },
  ]);
  expect(toAbstractQuery({ refId: 'A', profileTypeId: 't', labelSelector: '{broken' }).labelMatchers).toEqual([]);
});

describe('the label mapping of the settings', () => {
  const labelMapping = [{ metrics: 'app', profiles: 'team' }];

  it('goes before the known names', () => {
    const labelMatchers = [{ name: 'app', operator: Equal, value: 'x' }];
    const selector = (known: string[]) =>
      fromAbstractQuery({ refId: 'A', labelMatchers }, known, { labelMapping }).labelSelector;
    expect(selector(['service_name', 'team'])).toBe('{team="x"}');
    expect(selector(['service_name'])).toBe('{service_name="x"}');
  });

  it('gives other sources their names', () => {
    const query = fromAbstractQuery({ refId: 'A', labelMatchers: [] });
    const { labelMatchers } = toAbstractQuery({ ...query, labelSelector: '{team="x", pod="y"}' }, labelMapping);
    expect(labelMatchers.map(({ name }) => name)).toEqual(['app', 'pod']);
  });
});
