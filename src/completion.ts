/** Whether a completion holds what was typed, whatever its case. */
export function contains(text: string, typed: string): boolean {
  return text.toLowerCase().includes(typed.toLowerCase());
}

/** The options of a select whose texts hold what was typed. */
export function complete(texts: string[], typed: string): Array<{ value: string; label: string }> {
  return texts.filter((text) => contains(text, typed)).map((value) => ({ value, label: value }));
}
