import * as React from 'react';
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { selectors } from '../selectors';
import { DEFAULT_PROFILE_TYPE, type ProfileQuery, type Resources, type View } from '../types';
import { ViewFields } from './ViewFields';

const ids = selectors.queryEditor;
const resources: Resources = {
  profileTypes: async () => [],
  labelNames: async () => ['pod'],
  labelValues: async () => [],
  completeValues: async () => ({ values: [], more: 0 }),
};

let root: Root;
let container: HTMLElement;
let view: View | undefined;

function Fields({ initial }: { initial?: View }) {
  const [query, setQuery] = React.useState<ProfileQuery>({
    refId: 'A',
    profileTypeId: DEFAULT_PROFILE_TYPE,
    labelSelector: '{}',
    view: initial,
  });
  return (
    <ViewFields
      query={query}
      range={{ from: 0, to: 1 }}
      resources={resources}
      id={(name) => name}
      onChange={(change) => {
        view = change.view;
        setQuery({ ...query, ...change });
      }}
    />
  );
}

const show = (initial?: View) => act(async () => root.render(<Fields initial={initial} />));
const find = (testId: string) => container.querySelector<HTMLElement>(`[data-testid="${testId}"]`);

async function commit(testId: string, text: string) {
  const input = find(testId) as HTMLInputElement;
  await act(async () => {
    input.focus();
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value')?.set?.call(input, text);
    input.dispatchEvent(new Event('input', { bubbles: true }));
  });
  await act(async () => input.blur());
}

vi.setConfig({ testTimeout: 60_000 });

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  container = document.body.appendChild(document.createElement('div'));
  root = createRoot(container);
});

afterEach(async () => {
  await act(async () => root.unmount());
  container.remove();
});

describe('ViewFields', () => {
  it('is folded away until something is set', async () => {
    await show();
    expect(find(ids.focus)).toBeNull();
    await act(async () => find(ids.view)?.querySelector('button')?.click());
    expect(find(ids.focus)).not.toBeNull();
  });

  it('keeps only the options that are set', async () => {
    await show({ focus: 'main' });
    await commit(ids.ignore, ' runtime ');
    await commit(ids.maxDepth, '12');
    expect(view).toEqual({ focus: 'main', ignore: 'runtime', maxDepth: 12 });
    await act(async () => (find(ids.recursion) as HTMLInputElement).click());
    expect(view?.collapseRecursion).toBe(true);
    const reversed = [...(find(ids.direction)?.querySelectorAll('input') ?? [])].at(-1);
    await act(async () => reversed?.click());
    expect(view?.reverse).toBe(true);
    await act(async () => reversed && find(ids.direction)?.querySelector('input')?.click());
    await act(async () => (find(ids.recursion) as HTMLInputElement).click());
    await commit(ids.focus, '');
    await commit(ids.ignore, '');
    await commit(ids.maxDepth, '');
    expect(view).toBeUndefined();
  });
});
