import { Input } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../selectors';

const EXAMPLE = '{service_name="my-service", namespace=~"prod.*"}';

interface Props {
  id: string;
  value: string;
  invalid: boolean;
  onChange: (selector: string) => void;
}

/** A selector as text; it is taken over on Enter and when the focus leaves. */
export function SelectorInput({ id, value, invalid, onChange }: Props) {
  return (
    <TextInput
      id={id}
      data-testid={selectors.queryEditor.selectorText}
      width={60}
      value={value}
      invalid={invalid}
      placeholder={EXAMPLE}
      onCommit={(text) => onChange(text.trim() || '{}')}
    />
  );
}

interface TextInputProps extends Omit<React.ComponentProps<typeof Input>, 'value' | 'defaultValue' | 'ref'> {
  value: string;
  onCommit: (text: string) => void;
}

/** An input whose text counts on Enter and when the focus leaves. */
export function TextInput({ value, onCommit, ...input }: TextInputProps) {
  const commit = (text: string) => {
    if (text !== value) {
      onCommit(text);
    }
  };
  return (
    <Input
      {...input}
      key={value}
      defaultValue={value}
      onBlur={(event) => commit(event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key === 'Enter') {
          commit(event.currentTarget.value);
        }
      }}
    />
  );
}
