import * as React from 'react';
import { hasBaseline } from '../../../src/baseline';
import { BaselineFields } from '../../../src/components/BaselineFields';
import { HeatmapFields } from '../../../src/components/HeatmapFields';
import { QueryOptions } from '../../../src/components/QueryOptions';
import { ViewFields } from '../../../src/components/ViewFields';
import { type ProfileQuery, type Range } from '../../../src/types';
import { resources } from './api';
import { drawsFlameGraph, profileQuery } from './query';
import { type PageState } from './urlState';
import { type SetState } from './useUrlState';

interface Props {
  state: PageState;
  range: Range;
  setState: SetState;
}

const id = (name: string) => `view-${name}`;

/** The options of the page's view, with the components of the plugin's query editor. */
export function ViewOptions({ state, range, setState }: Props) {
  const query = profileQuery(state);
  // The fields that these components change are the page's, too.
  const onChange = (change: Partial<ProfileQuery>) => setState(change as Partial<PageState>);
  const props = { query, range, resources, id, onChange };
  return (
    <>
      {query.queryType === 'heatmap' ? <HeatmapFields {...props} /> : <QueryOptions {...props} choosesType={false} />}
      {hasBaseline(query) && <BaselineFields {...props} />}
      {drawsFlameGraph(query) && <ViewFields {...props} />}
    </>
  );
}
