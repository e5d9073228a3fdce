import { t } from '@grafana/i18n';
import { Combobox } from '@grafana/ui';
import * as React from 'react';
import { completeFound, isNote } from '../completion';
import { formatSelector, SERVICE_LABEL, tryParseSelector, withMatcher } from '../selector';
import { selectors } from '../selectors';
import { type Range, type Resources } from '../types';

interface Props {
  id: string;
  /** The selector whose service_name matcher is shown and changed. */
  selector: string;
  range: Range;
  resources: Resources;
  onChange: (selector: string) => void;
}

/** Chooses the service of a selector; cleared, the selector has all. */
export function ServiceSelect({ id, selector, range, resources, onChange }: Props) {
  const matchers = React.useMemo(() => tryParseSelector(selector), [selector]);
  const current = matchers?.find((m) => m.name === SERVICE_LABEL);

  const options = async (typed: string) => {
    const others = (matchers ?? []).filter((m) => m.name !== SERVICE_LABEL);
    return completeFound(await resources.completeValues(range, SERVICE_LABEL, typed, formatSelector(others)));
  };
  const label = current && (current.op === '=' ? current.value : `${current.op} ${current.value}`);

  return (
    <Combobox
      id={id}
      data-testid={selectors.queryEditor.service}
      placeholder={t('service-select.placeholder', 'All services')}
      disabled={!matchers}
      isClearable
      createCustomValue
      width={30}
      options={options}
      value={current ? { value: current.value, label } : null}
      onChange={(option) =>
        !isNote(option?.value) &&
        onChange(
          formatSelector(withMatcher(matchers ?? [], { name: SERVICE_LABEL, op: '=', value: option?.value ?? '' }))
        )
      }
    />
  );
}
