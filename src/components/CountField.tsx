import * as React from 'react';
import { EditorField } from './EditorField';
import { TextInput } from './SelectorInput';

interface Props {
  id: string;
  testId: string;
  label: string;
  tooltip: string;
  placeholder: string;
  value?: number;
  onChange: (value?: number) => void;
}

/** A whole number from 1 on, or nothing. */
export function CountField({ id, testId, label, tooltip, placeholder, value, onChange }: Props) {
  return (
    <EditorField label={label} htmlFor={id} tooltip={tooltip}>
      <TextInput
        id={id}
        data-testid={testId}
        type="number"
        min={1}
        step={1}
        width={14}
        placeholder={placeholder}
        value={value ? String(value) : ''}
        onCommit={(text) => {
          const count = Math.floor(Number(text));
          onChange(count > 0 ? count : undefined);
        }}
      />
    </EditorField>
  );
}
