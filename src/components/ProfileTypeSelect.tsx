import { t } from '@grafana/i18n';
import { Combobox } from '@grafana/ui';
import * as React from 'react';
import { contains } from '../completion';
import { profileTypeName, profileTypeOptions } from '../profileType';
import { selectors } from '../selectors';
import { type Range, type Resources } from '../types';

interface Props {
  id: string;
  value: string;
  range: Range;
  resources: Resources;
  testId?: string;
  placeholder?: string;
  width?: number;
  /** Whether the type can be taken away; then onChange gets "". */
  isClearable?: boolean;
  onChange: (profileTypeId: string) => void;
}

/** Chooses a profile type by its human name; IDs and variables may be typed. */
export function ProfileTypeSelect({ id, value, range, resources, onChange, ...shown }: Props) {
  const { testId = selectors.queryEditor.profileType, width = 30 } = shown;
  const options = async (typed: string) => {
    const all = profileTypeOptions(await resources.profileTypes(range));
    return all.filter(({ label, description }) => contains(label, typed) || contains(description, typed));
  };
  return (
    <Combobox
      id={id}
      data-testid={testId}
      placeholder={shown.placeholder ?? t('profile-type-select.placeholder', 'Choose a profile type')}
      createCustomValue
      isClearable={shown.isClearable ?? false}
      width={width}
      options={options}
      value={value ? { value, label: profileTypeName(value) } : null}
      onChange={(option: { value: string } | null) => onChange(option?.value ?? '')}
    />
  );
}
