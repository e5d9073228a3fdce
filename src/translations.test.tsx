import { dateTime } from '@grafana/data';
import i18next from 'i18next';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import * as React from 'react';
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCode } from './code';
import { completeFound } from './completion';
import { QueryEditor } from './components/QueryEditor';
import { VariableEditor } from './components/VariableEditor';
import { type ProfileDataSource } from './datasource';
import plugin from './plugin.json';
import { profileTypeName } from './profileType';
import { validateSelector } from './selector';
import { find, input } from './test/dom';
import { initTranslations } from './translations';
import { DEFAULT_PROFILE_TYPE, type ProfileQuery, QUERY_VERSION, type Resources } from './types';

const ENGLISH = 'en-US';
const GERMAN = 'de-DE';

/** The texts of a language by their keys. */
function texts(language: string): Map<string, string> {
  const file = path.join('src/locales', language, `${plugin.id}.json`);
  const flat = (node: object, prefix: string): Array<[string, string]> =>
    Object.entries(node).flatMap(([key, value]) =>
      typeof value === 'string' ? [[prefix + key, value] as [string, string]] : flat(value, `${prefix}${key}.`)
    );
  return new Map(flat(JSON.parse(readFileSync(file, 'utf8')), ''));
}

/** What is filled into a text: values, and elements around a part of it. */
const filled = (text = '') => (text.match(/\{\{.*?\}\}|<\/?\d+\/?>/g) ?? []).sort();

describe.each(plugin.languages)('the texts in %s', (language) => {
  const english = texts(ENGLISH);
  const translated = texts(language);

  it('have the keys of the English ones, and none is empty', () => {
    expect([...translated.keys()]).toEqual([...english.keys()]);
    expect([...translated].filter(([, text]) => text.trim() === '')).toEqual([]);
  });

  it('have the values of the English ones', () => {
    const values = (list: Map<string, string>) => [...list].map(([key, text]) => [key, filled(text)]);
    expect(values(translated)).toEqual(values(english));
  });
});

/** Does what Grafana does in a language: it has texts of its own, then loads the plugin. */
async function start(language: string) {
  await initTranslations();
  i18next.addResourceBundle(language, 'grafana', { title: 'Grafana' });
  await i18next.changeLanguage(language);
  await initTranslations();
}

describe('in German', () => {
  const resources: Resources = {
    profileTypes: async () => [],
    labelNames: async () => [],
    labelValues: async () => [],
    completeValues: async () => ({ values: [], more: 0 }),
  };
  const range = { from: dateTime(0), to: dateTime(3600_000), raw: { from: 'now-1h', to: 'now' } };
  let container: HTMLElement;
  let root: Root;

  beforeEach(async () => {
    Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
    container = document.createElement('div');
    document.body.append(container);
    root = createRoot(container);
    await start(GERMAN);
  });

  afterEach(async () => {
    await act(async () => root.unmount());
    container.remove();
    await start(ENGLISH);
  });

  const labels = () => [...container.querySelectorAll('label, button')].map((e) => e.textContent?.trim());

  it('the query editor is', async () => {
    const query: ProfileQuery = {
      refId: 'A',
      version: QUERY_VERSION,
      queryType: 'comparison',
      profileTypeId: DEFAULT_PROFILE_TYPE,
      labelSelector: '{pod="a"}',
      spanSelector: ['a<b>&"c"'],
    };
    await act(async () =>
      root.render(
        <QueryEditor
          query={query}
          datasource={{ resources } as ProfileDataSource}
          range={range}
          onChange={() => undefined}
          onRunQuery={() => undefined}
        />
      )
    );
    expect(labels()).toEqual(
      expect.arrayContaining(['Profiltyp', 'Label-Filter', 'Abfragetyp', 'Kerne', 'Vergleichsbasis'])
    );
    expect(labels()).toContain('Nur die Spans a<b>&"c"');
    expect(input('flameline service').placeholder).toBe('Alle Services');
    expect(input('flameline profile type').value).toBe('CPU-Zeit');
    expect(find('flameline remove filter').getAttribute('aria-label')).toBe('Filter auf pod entfernen');
  });

  it("the editor of a variable's query is", async () => {
    await act(async () =>
      root.render(
        <VariableEditor
          query={{ refId: 'v', kind: 'labelValues' }}
          range={range}
          resources={resources}
          onChange={() => undefined}
          onRunQuery={() => undefined}
        />
      )
    );
    expect(labels()).toEqual(expect.arrayContaining(['Inhalt der Variable', 'Reihen, die übereinstimmen mit']));
    expect(input('flameline variable kind').value).toBe('Label-Werte');
  });

  it('messages are, with numbers and plurals', () => {
    expect(profileTypeName('mutex:delay:nanoseconds:mutex:count')).toBe('Sperren: Wartezeit');
    expect(validateSelector('{a="1" b')).toBe('erwartet wird "," oder "}" an Position 8');
    expect(() => parseCode('a<b>{}', [])).toThrow('Im Zeitbereich gibt es keinen Profiltyp a<b>');
    const note = (more: number) => completeFound({ values: [], more })[0]?.label;
    expect(note(1)).toBe('1 weiterer: Geben Sie einen Teil des Werts ein');
    expect(note(12_345)).toBe('12.345 weitere: Geben Sie einen Teil des Werts ein');
  });
});

it('a language without texts is English', async () => {
  await start('fr-FR');
  expect(profileTypeName(DEFAULT_PROFILE_TYPE)).toBe('CPU time');
  await start(ENGLISH);
});
