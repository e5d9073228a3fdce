import { type ScopedVars } from '@grafana/data';
import { type Templates } from '../interpolate';

interface Variable {
  value: string | string[];
  /** The variable's own "All" value, which Grafana hands over unformatted. */
  allValue?: string;
}

/**
 * Replaces $name, ${name} and ${name:format} by Grafana's rules: a format in
 * the text wins over the caller's, and an "All" value of the user's is not
 * formatted at all.
 */
export function templates(variables: Record<string, Variable>): Templates {
  return {
    replace(target = '', _scopedVars?: ScopedVars, format?: string | ((value: unknown) => string)) {
      return target.replace(/\$(\w+)|\$\{(\w+)(?::(\w+))?\}/g, (text, plain, braced, own) => {
        const variable = variables[plain ?? braced];
        if (!variable) {
          return text;
        }
        const { value, allValue } = variable;
        if (allValue !== undefined) {
          return allValue;
        }
        if (own === 'raw') {
          return String(value);
        }
        return typeof format === 'function' ? format(value) : [value].flat().join(',');
      });
    },
  };
}
