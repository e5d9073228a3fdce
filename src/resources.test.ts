import { beforeEach, describe, expect, it } from 'vitest';
import { completeFound, isNote } from './completion';
import { createResources } from './resources';
import { type Resources } from './types';

const range = { from: 1_000_000, to: 4_600_000 };

/** 100,000 pods, as a large cluster has them over a day. */
const pods = Array.from({ length: 100_000 }, (_, i) => `pod-${String(i).padStart(6, '0')}`);
const nodes = ['node-a', 'Node-B', 'c'];

let requests: Array<[string, Record<string, string | number>]>;
let failing: boolean;
let time: number;
let resources: Resources;

/** The plugin's resources, with the plugin's bounds. */
async function plugin(path: string, params: Record<string, string | number>): Promise<unknown> {
  requests.push([path, params]);
  if (failing) {
    throw new Error('bad gateway');
  }
  switch (path) {
    case 'profileTypes':
      return [{ id: 'cpu', label: 'cpu' }];
    case 'labelNames':
      return ['node', 'pod', '__name__'];
    default: {
      const all = params.label === 'pod' ? pods : nodes;
      if (!params.limit) {
        return all;
      }
      const found = all.filter((value) => value.toLowerCase().includes(String(params.search ?? '').toLowerCase()));
      const values = found.slice(0, Math.min(Number(params.limit), 10_000));
      return { values, more: found.length - values.length };
    }
  }
}

beforeEach(() => {
  requests = [];
  failing = false;
  time = 0;
  resources = createResources(plugin, () => time);
});

describe('completions of values', () => {
  it('ask once for all that is typed', async () => {
    for (const typed of ['', 'n', 'no', 'nod', 'node', 'NODE-B', '']) {
      const { values, more } = await resources.completeValues(range, 'node', typed, '{a="b"}');
      expect(values).toEqual(nodes.filter((node) => node.toLowerCase().includes(typed.toLowerCase())));
      expect(more).toBe(0);
    }
    expect(requests).toEqual([
      ['labelValues', { start: 1_000_000, end: 4_600_000, label: 'node', query: '{a="b"}', limit: 10_000 }],
    ]);
  });

  it('ask once while an answer is on its way', async () => {
    await Promise.all(['', 'n', 'no'].map((typed) => resources.completeValues(range, 'node', typed)));
    expect(requests).toHaveLength(1);
  });

  it('ask again for another label, selector or range, and after a minute', async () => {
    await resources.completeValues(range, 'node', '');
    await resources.completeValues(range, 'zone', '');
    await resources.completeValues(range, 'node', '', '{a="b"}');
    await resources.completeValues({ from: 0, to: 4_600_000 }, 'node', '');
    expect(requests).toHaveLength(4);
    await resources.completeValues({ from: range.from + 1, to: range.to + 1 }, 'node', '');
    expect(requests).toHaveLength(4);
    time = 60_000;
    await resources.completeValues(range, 'node', '');
    expect(requests).toHaveLength(5);
  });

  it('search at the server only in a list that was cut, and only as long as needed', async () => {
    const open = await resources.completeValues(range, 'pod', '');
    expect(open.values).toHaveLength(10_000);
    expect(open.more).toBe(90_000);
    const wide = await resources.completeValues(range, 'pod', 'pod');
    expect(wide.more).toBe(90_000);
    const found = await resources.completeValues(range, 'pod', 'pod-09');
    expect(found).toEqual({ values: pods.slice(90_000), more: 0 });
    expect(requests.map(([, params]) => params.search)).toEqual([undefined, 'pod', 'pod-09']);
    for (const typed of ['pod-099', 'pod-0999', 'POD-09999', 'pod-099999', 'pod-09', 'pod']) {
      const { values } = await resources.completeValues(range, 'pod', typed);
      expect(values[0]).toContain(typed.toLowerCase());
    }
    expect(requests).toHaveLength(3);
    expect((await resources.completeValues(range, 'pod', 'pod-099999')).values).toEqual(['pod-099999']);
  });

  it('do not keep failures', async () => {
    failing = true;
    await expect(resources.completeValues(range, 'pod', '')).rejects.toThrow('bad gateway');
    failing = false;
    await resources.completeValues(range, 'pod', '');
    failing = true;
    await expect(resources.completeValues(range, 'pod', '0001')).rejects.toThrow('bad gateway');
    failing = false;
    expect((await resources.completeValues(range, 'pod', '00010')).values).toContain('pod-000100');
    expect(requests).toHaveLength(4);
  });

  it('understand a plugin that answers with a plain list', async () => {
    resources = createResources(async () => nodes);
    expect(await resources.completeValues(range, 'node', 'b')).toEqual({ values: ['Node-B'], more: 0 });
    resources = createResources(async () => undefined);
    expect(await resources.completeValues(range, 'node', 'b')).toEqual({ values: [], more: 0 });
  });
});

describe('other completions', () => {
  it('ask once', async () => {
    for (let i = 0; i < 5; i++) {
      expect(await resources.labelNames(range, '{}')).toEqual(['node', 'pod']);
      expect(await resources.labelNames(range)).toEqual(['node', 'pod']);
      expect(await resources.profileTypes(range)).toHaveLength(1);
    }
    expect(requests.map(([path]) => path)).toEqual(['labelNames', 'profileTypes']);
  });

  it('leave variables all values', async () => {
    expect(await resources.labelValues(range, 'pod')).toHaveLength(100_000);
  });

  it('keep a bounded number of answers', async () => {
    for (let i = 0; i < 150; i++) {
      await resources.labelNames(range, `{a="${i}"}`);
    }
    await resources.labelNames(range, '{a="149"}');
    expect(requests).toHaveLength(150);
    await resources.labelNames(range, '{a="0"}');
    expect(requests).toHaveLength(151);
  });
});

describe('options', () => {
  it('say what was left out, in a note that is no value', () => {
    expect(completeFound({ values: ['a'], more: 0 })).toEqual([{ value: 'a', label: 'a' }]);
    const options = completeFound({ values: ['a'], more: 90_000 });
    expect(options[1]).toMatchObject({ label: '90,000 more: type a part of the value', infoOption: true });
    expect(options.map(({ value }) => isNote(value))).toEqual([false, true]);
  });
});
