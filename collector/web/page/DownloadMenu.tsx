import { type DataFrame, toCSV } from '@grafana/data';
import { Button, Dropdown, Menu } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../../../src/selectors';
import { type Range } from '../../../src/types';
import { downloads } from './downloads';
import { type PageState } from './urlState';

interface Props {
  state: PageState;
  range: Range;
  /** The result of a table or a chart, which can be saved as it is. */
  frames: DataFrame[];
}

/** Saves what is shown as a file: a table or a chart as CSV, and profiles in the server's formats. */
export function DownloadMenu({ state, range, frames }: Props) {
  const tabular = state.queryType !== 'profile' && state.queryType !== 'comparison';
  const menu = () => (
    <Menu ariaLabel="Formats">
      {tabular && (
        <Menu.Item
          label="CSV"
          description="These numbers, for spreadsheets"
          onClick={() => save(toCSV(frames), 'text/csv', `${state.queryType}.csv`)}
        />
      )}
      {downloads(state, range).map(({ label, description, url }) => (
        <Menu.Item key={label} label={label} description={description} url={url} target="_blank" />
      ))}
    </Menu>
  );
  return (
    <Dropdown overlay={menu} placement="bottom-end">
      <Button size="sm" variant="secondary" icon="download-alt" data-testid={selectors.page.download}>
        Download
      </Button>
    </Dropdown>
  );
}

/** Lets the browser save a text. */
function save(text: string, type: string, name: string) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
