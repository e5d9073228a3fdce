import { Input } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../selectors';

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
      placeholder='{service_name="my-service", namespace=~"prod.*"}'
      onCommit={(text) => onChange(text.trim() || '{}')}
    />
  );
}

interface TextInputProps extends Omit<React.ComponentProps<typeof Input>, 'value' | 'onChange' | 'onBlur' | 'ref'> {
  value: string;
  onCommit: (text: string) => void;
}

/** An input whose text counts on Enter and when the focus leaves. */
export function TextInput({ value, onCommit, ...input }: TextInputProps) {
  const [text, setText] = React.useState(value);
  React.useEffect(() => setText(value), [value]);
  const commit = () => {
    if (text !== value) {
      onCommit(text);
    }
  };
  return (
    <Input
      {...input}
      value={text}
      onChange={(event) => setText(event.currentTarget.value)}
      onBlur={commit}
      onKeyDown={(event) => {
        if (event.key === 'Enter') {
          commit();
        }
      }}
    />
  );
}
