import { t } from '@grafana/i18n';
import { type Completions } from './types';

/** Whether a completion holds what was typed, whatever its case. */
export function contains(text: string, typed: string): boolean {
  return text.toLowerCase().includes(typed.toLowerCase());
}

/** An option of a select. An infoOption is a note, which cannot be chosen. */
export interface Option {
  value: string;
  label: string;
  infoOption?: boolean;
}

/** The options of a select whose texts hold what was typed. */
export function complete(texts: string[], typed: string): Option[] {
  return texts.filter((text) => contains(text, typed)).map((value) => ({ value, label: value }));
}

/** The value of the note that a list was cut; no label has it. */
const CUT = '\u0000cut';

/** The options of a select for values that were searched, with a note if there are more. */
export function completeFound({ values, more }: Completions): Option[] {
  const options: Option[] = values.map((value) => ({ value, label: value }));
  if (more > 0) {
    const label = t('completion.more', '', {
      count: more,
      defaultValue_one: '{{count, number}} more: type a part of the value',
      defaultValue_other: '{{count, number}} more: type a part of the value',
    });
    options.push({ value: CUT, label, infoOption: true });
  }
  return options;
}

/** Whether an option is a note: Grafana versions that do not know notes let it be chosen. */
export function isNote(value: string | undefined): boolean {
  return value === CUT;
}
