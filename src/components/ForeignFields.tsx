import { Button } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../selectors';
import { type ProfileQuery } from '../types';
import { EditorField, EditorRow } from './EditorField';

type Field = 'spanSelector' | 'profileIdSelector' | 'annotations' | 'includeExemplars' | 'includeHeatmap' | 'heatmapType';

/** The fields that only queries of Grafana's Pyroscope data source, and links, set: the text of each, if it is set. */
function foreignFields(query: ProfileQuery): Array<{ fields: Field[]; text: string }> {
  const { spanSelector, profileIdSelector, annotations, includeExemplars, includeHeatmap } = query;
  const found: Array<{ fields: Field[]; text: string }> = [];
  if (spanSelector?.length) {
    found.push({ fields: ['spanSelector'], text: `Only the spans ${spanSelector.join(', ')}` });
  }
  if (profileIdSelector?.length) {
    found.push({ fields: ['profileIdSelector'], text: `Only the profiles ${profileIdSelector.join(', ')}` });
  }
  if (annotations) {
    found.push({ fields: ['annotations'], text: 'Annotations of the series' });
  }
  if (includeExemplars) {
    found.push({ fields: ['includeExemplars'], text: 'Exemplars (not shown by this data source)' });
  }
  if (includeHeatmap) {
    found.push({
      fields: ['includeHeatmap', 'heatmapType'],
      text: 'Heat map of profiles or spans (not shown by this data source)',
    });
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
        label="Of the query as it was taken over"
        tooltip="Grafana’s Pyroscope data source, or a link, set these; a click removes one"
      >
        <div>
          {found.map(({ fields, text }) => (
            <Button
              key={text}
              size="sm"
              variant="secondary"
              icon="times"
              tooltip="Remove"
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
