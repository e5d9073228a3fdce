import { css } from '@emotion/css';
import { RadioButtonGroup, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { EditorField, EditorRow } from '../../../src/components/EditorField';
import { selectors } from '../../../src/selectors';
import { type Range } from '../../../src/types';
import { type PageState, showView } from './urlState';
import { type SetState } from './useUrlState';
import { VIEWS } from './views';

// Options come after the first view: they have a script of their own.
const ViewOptions = React.lazy(() => import('./ViewOptions').then((m) => ({ default: m.ViewOptions })));

interface Props {
  state: PageState;
  range: Range;
  setState: SetState;
}

/** Chooses the view, and its options. */
export function ViewSwitch({ state, range, setState }: Props) {
  const styles = useStyles2(getStyles);
  return (
    <section aria-label="View">
      <EditorRow>
        <EditorField label="View">
          <div className={styles.views} data-testid={selectors.page.view}>
            <RadioButtonGroup
              aria-label="View"
              options={VIEWS.map((view) => ({ ...view }))}
              value={state.queryType}
              onChange={(view) => setState(showView(state, view))}
            />
          </div>
        </EditorField>
        <React.Suspense fallback={null}>
          <ViewOptions state={state} range={range} setState={setState} />
        </React.Suspense>
      </EditorRow>
    </section>
  );
}

const getStyles = () => ({
  // On narrow screens the views are scrolled.
  views: css({ maxWidth: '100%', overflowX: 'auto' }),
});
