import { t } from '@grafana/i18n';
import { Button } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../selectors';
import { type ProfileQuery } from '../types';
import { UNESCAPED } from '../unescaped';
import { EditorField, EditorRow } from './EditorField';

type Field = 'spanSelector' | 'profileIdSelector' | 'annotations' | 'includeExemplars' | 'includeHeatmap' | 'heatmapType';

/** The fields that only queries of Grafana's Pyroscope data source, and links, set: the text of each, if it is set. */
function foreignFields(query: ProfileQuery): Array<{ fields: Field[]; text: string }> {
  const { spanSelector, profileIdSelector, annotations, includeExemplars, includeHeatmap } = query;
  const found: Array<{ fields: Field[]; text: string }> = [];
  if (spanSelector?.length) {
    const spans = spanSelector.join(', ');
    const text = t('foreign-fields.spans', 'Only the spans {{spans}}', { spans, interpolation: UNESCAPED });
    found.push({ fields: ['spanSelector'], text });
  }
  if (profileIdSelector?.length) {
    const profiles = profileIdSelector.join(', ');
    const text = t('foreign-fields.profiles', 'Only the profiles {{profiles}}', { profiles, interpolation: UNESCAPED });
    found.push({ fields: ['profileIdSelector'], text });
  }
  if (annotations) {
    found.push({ fields: ['annotations'], text: t('foreign-fields.annotations', 'Annotations of the series') });
  }
  if (includeExemplars) {
    const text = t('foreign-fields.exemplars', 'Exemplars (not shown by this data source)');
    found.push({ fields: ['includeExemplars'], text });
  }
  if (includeHeatmap) {
    const text = t('foreign-fields.heatmap', 'Heat map of profiles or spans (not shown by this data source)');
    found.push({ fields: ['includeHeatmap', 'heatmapType'], text });
  }
  return found;
}

interface Props {
  query: ProfileQuery;
  onChange: (change: Partial<ProfileQuery>) => void;
}

/** What a query has of Grafana's Pyroscope data source that no other field shows, each with a button that removes it. */
export function ForeignFields({ query, onChange }: Props) {
  const found = foreignFields(query);
  if (found.length === 0) {
    return null;
  }
  return (
    <EditorRow testId={selectors.queryEditor.foreign}>
      <EditorField
        label={t('foreign-fields.label', 'Of the query as it was taken over')}
        tooltip={t(
          'foreign-fields.tooltip',
          'Grafana’s Pyroscope data source, or a link, set these; a click removes one'
        )}
      >
        <div>
          {found.map(({ fields, text }) => (
            <Button
              key={text}
              size="sm"
              variant="secondary"
              icon="times"
              tooltip={t('foreign-fields.remove', 'Remove')}
              onClick={() => onChange(Object.fromEntries(fields.map((field) => [field, undefined])))}
            >
              {text}
            </Button>
          ))}
        </div>
      </EditorField>
    </EditorRow>
  );
}
