import { act } from 'react';

/** What component tests do with the elements of an editor. */
export function all(testId: string, within: ParentNode = document.body): HTMLElement[] {
  return [...within.querySelectorAll<HTMLElement>(`[data-testid="${testId}"]`)];
}

export function find(testId: string, within?: ParentNode): HTMLElement {
  const [element] = all(testId, within);
  if (!element) {
    throw new Error(`${testId} is not shown`);
  }
  return element;
}

/** The input of a field, which may be the element with the test id itself. */
export function input(testId: string, within?: ParentNode): HTMLInputElement {
  const element = find(testId, within);
  const found = element instanceof HTMLInputElement ? element : element.querySelector('input');
  if (!found) {
    throw new Error(`${testId} has no input`);
  }
  return found;
}

export async function typeInto(element: HTMLInputElement | HTMLTextAreaElement, text: string) {
  const prototype = element instanceof HTMLInputElement ? HTMLInputElement.prototype : HTMLTextAreaElement.prototype;
  await act(async () => {
    element.focus();
    Object.getOwnPropertyDescriptor(prototype, 'value')?.set?.call(element, text);
    element.dispatchEvent(new Event('input', { bubbles: true }));
  });
}

export async function press(element: HTMLElement, key: string) {
  await act(async () => {
    element.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
  });
}

export async function click(element: HTMLElement) {
  await act(async () => element.click());
}
