import { css } from '@emotion/css';
import { type Field, FieldType, formattedValueToString, getDisplayProcessor, type GrafanaTheme2 } from '@grafana/data';
import { Button, InteractiveTable, useStyles2, useTheme2 } from '@grafana/ui';
import * as React from 'react';
import { formatSelector, tryParseSelector, withMatcher } from '../../../src/selector';
import { selectors } from '../../../src/selectors';
import { type PageState, showView } from './urlState';
import { type ViewProps } from './ViewPanel';

/** The rows of a page of the table. */
const PAGE_SIZE = 50;

/** A row: its number in the data frame, and the value of each column by the column's id. */
type Row = Record<string, unknown> & { row: number };

/** A table of functions or of what accounts for a change, which its columns sort. */
export function TableView({ state, frames, setState }: ViewProps) {
  const styles = useStyles2(getStyles);
  const theme = useTheme2();
  const fields = frames[0]?.fields;
  const rows = React.useMemo(() => rowsOf(fields ?? []), [fields]);
  const columns = React.useMemo(
    () =>
      (fields ?? []).map((field, i) => {
        const isNumber = field.type === FieldType.number;
        const display = getDisplayProcessor({ field, theme });
        const change = /\bchange$/i.test(field.name) && field.config.unit !== 'percentunit';
        return {
          id: columnID(i),
          header: field.name,
          sortType: isNumber ? ('number' as const) : ('string' as const),
          sortDescFirst: isNumber,
          disableGrow: isNumber,
          cell: ({ row }: { row: { original: Row } }) => {
            const value = row.original[columnID(i)];
            if (isNumber) {
              const sign = change && Number(value) > 0 ? '+' : '';
              return <span className={styles.number}>{sign + formattedValueToString(display(value))}</span>;
            }
            const link = linkOf(fields ?? [], i, row.original.row, state);
            return link ? (
              <Button
                fill="text"
                size="sm"
                className={styles.link}
                tooltip={link.does}
                onClick={() => setState(link.change)}
              >
                {String(value)}
              </Button>
            ) : (
              <span className={styles.text}>{String(value)}</span>
            );
          },
        };
      }),
    [fields, theme, styles, state, setState]
  );
  const explanation = explanationOf(frames[0]);
  return (
    <>
      {explanation && (
        <p className={styles.explanation} role="status" data-testid={selectors.page.explanation}>
          {explanation}
        </p>
      )}
      {rows.length > 0 && (
        <InteractiveTable columns={columns} data={rows} getRowId={({ row }) => String(row)} pageSize={PAGE_SIZE} />
      )}
    </>
  );
}

/** The sentence of a result of explain. */
export function explanationOf(frame?: ViewProps['frames'][number]): string | undefined {
  const text: unknown = frame?.meta?.custom?.['explanation'];
  return typeof text === 'string' ? text : undefined;
}

// Column ids are no names of fields: react-table reads a dot in them as a path.
const columnID = (i: number) => `c${i}`;

function rowsOf(fields: Array<Pick<Field, 'values'>>): Row[] {
  return Array.from({ length: fields[0]?.values.length ?? 0 }, (_, row) => ({
    row,
    ...Object.fromEntries(fields.map(({ values }, i) => [columnID(i), values[row] as unknown])),
  }));
}

interface Link {
  /** What a click does, for the tooltip. */
  does: string;
  change: Partial<PageState>;
}

/**
 * Where the text of a cell leads: the name of a function to that function over time, a
 * label's value to what has this value. Names in parentheses stand for several.
 */
function linkOf(fields: Array<Pick<Field, 'name' | 'values'>>, column: number, row: number, state: PageState): Link | undefined {
  const text = String(fields[column]?.values[row]);
  const name = fields[column]?.name;
  const by = String(fields.find((field) => field.name === 'By')?.values[row] ?? 'function');
  if ((name !== 'Function' && name !== 'Name') || (by !== 'function' && /^\(.*\)$/.test(text)) || text === '(all other functions)') {
    return undefined;
  }
  if (by === 'function') {
    return { does: 'Show this function over time', change: { ...showView(state, 'functionSeries'), functions: [text] } };
  }
  const matchers = tryParseSelector(state.labelSelector);
  return matchers && {
    does: `Show only ${by}=${text}`,
    change: { labelSelector: formatSelector(withMatcher(matchers, { name: by, op: '=', value: text })) },
  };
}

const getStyles = (theme: GrafanaTheme2) => ({
  explanation: css({ margin: theme.spacing(0, 1, 1.5), fontSize: theme.typography.h5.fontSize }),
  number: css({ display: 'block', textAlign: 'right', whiteSpace: 'nowrap', fontVariantNumeric: 'tabular-nums' }),
  text: css({ overflowWrap: 'anywhere' }),
  link: css({ height: 'auto', padding: 0, whiteSpace: 'normal', textAlign: 'left', overflowWrap: 'anywhere' }),
});
