import { describe, expect, it } from 'vitest';
import { formatCode, parseCode, placeAt, suggest } from './code';
import { createResources } from './resources';
import { DEFAULT_PROFILE_TYPE, type ProfileType } from './types';

const ALLOC = 'memory:alloc_space:bytes:space:bytes';
const types: ProfileType[] = [
  { id: DEFAULT_PROFILE_TYPE, label: '' },
  { id: ALLOC, label: '' },
  { id: 'block:delay:nanoseconds::', label: '' },
  { id: 'block:delay:seconds::', label: '' },
];

describe('the text of a query', () => {
  it.each([
    [DEFAULT_PROFILE_TYPE, 'process_cpu:cpu{}'],
    ['block:delay:seconds::', 'block:delay:seconds::{}'],
    ['unknown:a:b:c:d', 'unknown:a:b:c:d{}'],
    ['$type', '$type{}'],
    ['${type}', '${type}{}'],
  ])('of %s is %s, and back', (profileTypeId, text) => {
    expect(formatCode({ profileTypeId, labelSelector: '{}' }, types)).toBe(text);
    expect(parseCode(text, types)).toEqual({ profileTypeId, labelSelector: '{}' });
  });

  it.each([
    ['{}', 'A query begins with a profile type'],
    ['heap{}', 'There is no profile type heap in this time range'],
    ['block:delay{}', 'There are 2 profile types block:delay: write all parts, such as block:delay:nanoseconds::'],
    ['memory:alloc_space{a="b"', 'expected "," or "}" at position 25'],
  ])('%s is refused', (text, problem) => {
    expect(() => parseCode(text, types)).toThrow(problem);
  });

  it('may have no braces, and variables', () => {
    expect(parseCode(' memory:alloc_space ', types)).toEqual({ profileTypeId: ALLOC, labelSelector: '{}' });
    expect(parseCode('memory:alloc_space{$matchers}', types).labelSelector).toBe('{$matchers}');
  });
});

describe('the place at the cursor, |', () => {
  it.each([
    ['proc|ess{}', 'type', 'proc'],
    ['cpu{|', 'name', ''],
    ['cpu{na|me="a"}', 'name', 'na'],
    ['cpu{a="b", |}', 'name', ''],
    ['cpu{a="b"|}', undefined, ''],
    ['cpu{a |', undefined, ''],
    ['cpu{a=|', 'value', ''],
    ['cpu{a="b,{c|', 'value', 'b,{c'],
    ['cpu{a=~"x|y"}', 'value', 'x'],
    ['cpu{a="b"}|', undefined, ''],
  ])('in %s is a %s', (marked, kind, typed) => {
    const place = placeAt(marked.replace('|', ''), marked.indexOf('|'));
    expect(place?.kind).toBe(kind);
    expect(place?.typed ?? '').toBe(typed);
  });
});

describe('completions', () => {
  const asked: Array<Record<string, string | number>> = [];
  const resources = createResources(async (path, params) => {
    asked.push(params);
    return path === 'profileTypes' ? types : path === 'labelNames' ? ['pod', 'k8s.pod'] : { values: ['a.b', 'a"c'], more: 3 };
  });
  const at = async (marked: string) => {
    const text = marked.replace('|', '');
    const found = await suggest(text, marked.indexOf('|'), { from: 0, to: 60_000 }, resources);
    return found?.list.map(({ insert }) => text.slice(0, found.from) + insert + text.slice(found.to));
  };

  it('are of the profile types, by ID and by name', async () => {
    expect(await at('alloc|')).toEqual(['memory:alloc_space{}']);
    expect(await at('CPU time|{pod="a"}')).toEqual(['process_cpu:cpu{pod="a"}']);
  });

  it('are of labels, quoted where they need it', async () => {
    expect(await at('cpu{po|}')).toEqual(['cpu{pod}', 'cpu{"k8s.pod"}']);
  });

  it('are of values that the matchers before leave', async () => {
    expect(await at('cpu{node="n", pod="a|')).toEqual(['cpu{node="n", pod="a.b"', 'cpu{node="n", pod="a\\"c"']);
    expect(asked.at(-1)).toMatchObject({ label: 'pod', query: '{node="n"}' });
  });

  it('of a regular expression are escaped and go behind its last alternative', async () => {
    expect((await suggest('cpu{pod=~"x.*|a', 15, { from: 0, to: 60_000 }, resources))?.list[0]?.insert).toBe(
      '"x.*|a\\\\.b"'
    );
  });
});
