export type Operator = '=' | '!=' | '=~' | '!~';

export const OPERATORS: Operator[] = ['=', '!=', '=~', '!~'];

/** One condition of a selector, its value unescaped. */
export interface Matcher {
  name: string;
  op: Operator;
  value: string;
}

/** The label that every series has; the service select edits its matcher. */
export const SERVICE_LABEL = 'service_name';

export class SelectorError extends Error {
  /** @param position offset of the offending character, from 0 */
  constructor(
    message: string,
    readonly position: number
  ) {
    super(`${message} at position ${position + 1}`);
    this.name = 'SelectorError';
  }
}

const PLAIN_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*/;
/** What the server takes for a name without quotes. */
const BARE_NAME = /^[a-zA-Z_][a-zA-Z0-9_./-]*/;
const ESCAPES: Record<string, string> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
};

/**
 * Reads matchers in PromQL braces, as the server's ParseSelector does; "" and
 * "{}" have none. Label names that are no plain words stand in quotes, but may
 * have dots, dashes and slashes without.
 *
 * @throws SelectorError
 */
export function parseSelector(text: string): Matcher[] {
  const scanner = new Scanner(text);
  scanner.skipSpace();
  if (scanner.atEnd()) {
    return [];
  }
  scanner.expect('{');
  const matchers: Matcher[] = [];
  for (;;) {
    scanner.skipSpace();
    if (scanner.take('}')) {
      break;
    }
    const name = scanner.name();
    scanner.skipSpace();
    const op = scanner.operator();
    scanner.skipSpace();
    matchers.push({ name, op, value: scanner.string() });
    scanner.skipSpace();
    if (!scanner.take(',') && !scanner.sees('}')) {
      throw scanner.error('expected "," or "}"');
    }
  }
  scanner.skipSpace();
  if (!scanner.atEnd()) {
    throw scanner.error('unexpected text after "}"');
  }
  return matchers;
}

/** The text of matchers, in their order. */
export function formatSelector(matchers: Matcher[]): string {
  return `{${matchers.map(formatMatcher).join(', ')}}`;
}

function formatMatcher({ name, op, value }: Matcher): string {
  const plain = PLAIN_NAME.exec(name)?.[0] === name;
  return `${plain ? name : quote(name)}${op}${quote(value)}`;
}

function quote(value: string): string {
  const escaped = value.replace(/[\\"]/g, '\\$&').replace(/\n/g, '\\n').replace(/\r/g, '\\r').replace(/\t/g, '\\t');
  return `"${escaped}"`;
}

/** The matchers of a text, or undefined where it is no selector. */
export function tryParseSelector(text: string): Matcher[] | undefined {
  try {
    return parseSelector(text);
  } catch {
    return undefined;
  }
}

/**
 * What is wrong with a selector, in one line, or undefined. Regular
 * expressions are left to the server, whose syntax is not the browser's.
 */
export function validateSelector(text: string): string | undefined {
  try {
    parseSelector(text);
    return undefined;
  } catch (err) {
    return err instanceof Error ? err.message : String(err);
  }
}

/** Sets the one matcher of a label, or takes it away where value is empty. */
export function withMatcher(matchers: Matcher[], matcher: Matcher): Matcher[] {
  const rest = matchers.filter((m) => m.name !== matcher.name);
  return matcher.value === '' ? rest : [matcher, ...rest];
}

/** Escapes a literal for a regular expression of the server (RE2). */
export function escapeRegex(value: string): string {
  return value.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

class Scanner {
  private at = 0;

  constructor(private readonly text: string) {}

  error(message: string): SelectorError {
    return new SelectorError(message, this.at);
  }

  atEnd(): boolean {
    return this.at >= this.text.length;
  }

  skipSpace(): void {
    while (/\s/.test(this.text.charAt(this.at))) {
      this.at++;
    }
  }

  sees(token: string): boolean {
    return this.text.startsWith(token, this.at);
  }

  take(token: string): boolean {
    if (!this.sees(token)) {
      return false;
    }
    this.at += token.length;
    return true;
  }

  expect(token: string): void {
    if (!this.take(token)) {
      throw this.error(`expected "${token}"`);
    }
  }

  name(): string {
    const bare = BARE_NAME.exec(this.text.slice(this.at))?.[0];
    if (bare) {
      this.at += bare.length;
      return bare;
    }
    if (this.sees('"') || this.sees("'") || this.sees('`')) {
      return this.string();
    }
    throw this.error('expected a label name');
  }

  operator(): Operator {
    for (const op of ['=~', '!~', '!=', '='] as const) {
      if (this.take(op)) {
        return op;
      }
    }
    throw this.error('expected one of =, !=, =~, !~');
  }

  string(): string {
    const quoteChar = this.text.charAt(this.at);
    if (quoteChar !== '"' && quoteChar !== "'" && quoteChar !== '`') {
      throw this.error('expected a value in quotes');
    }
    const start = this.at++;
    let value = '';
    while (!this.atEnd()) {
      const char = this.text.charAt(this.at++);
      if (char === quoteChar) {
        return value;
      }
      if (char === '\n' && quoteChar !== '`') {
        break;
      }
      value += char === '\\' && quoteChar !== '`' ? this.escape(quoteChar) : char;
    }
    throw new SelectorError('quote is not closed', start);
  }

  private escape(quoteChar: string): string {
    const char = this.text.charAt(this.at);
    const hex = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/.exec(this.text.slice(this.at));
    const digits = hex?.[1] ?? hex?.[2] ?? hex?.[3];
    if (hex && digits) {
      const code = parseInt(digits, 16);
      if (code > 0x10ffff) {
        throw this.error('no such character');
      }
      this.at += hex[0].length;
      return String.fromCodePoint(code);
    }
    const octal = /^[0-7]{3}/.exec(this.text.slice(this.at))?.[0];
    if (octal && parseInt(octal, 8) < 0x80) {
      this.at += octal.length;
      return String.fromCharCode(parseInt(octal, 8));
    }
    const value = char === quoteChar ? char : ESCAPES[char];
    if (value === undefined) {
      throw this.error(`unknown escape \\${char}`);
    }
    this.at++;
    return value;
  }
}
