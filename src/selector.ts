import { t } from '@grafana/i18n';
import { type SyntaxNode, type SyntaxNodeRef } from '@lezer/common';
import { parser } from '@prometheus-io/lezer-promql';
import { UNESCAPED } from './unescaped';

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
  private readonly problem: string;

  /** @param position offset of the offending character, from 0 */
  constructor(
    message: string,
    readonly position: number
  ) {
    super(
      t('selector.at-position', '{{problem}} at position {{position}}', {
        problem: message,
        position: position + 1,
        interpolation: UNESCAPED,
      })
    );
    this.name = 'SelectorError';
    this.problem = message;
  }

  /** The same error in a text in which the selector begins later. */
  movedBy(offset: number): SelectorError {
    return new SelectorError(this.problem, this.position + offset);
  }
}

/** A label's name that needs no quotes in PromQL. */
const PLAIN_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** Strings of PromQL, closed or not. */
const STRING = /"(?:[^"\\\n]|\\[^])*"?|'(?:[^'\\\n]|\\[^])*'?|`[^`]*`?/;
const CLOSED_STRING = /^(?:"(?:[^"\\\n]|\\[^])*"|'(?:[^'\\\n]|\\[^])*'|`[^`]*`)$/;

/**
 * The parts of a selector that have to be told apart for mask. A name is a word
 * in front of an operator, which ParseSelector lets have dots, dashes and slashes.
 */
const PART = new RegExp(
  [
    `(?<kept>${STRING.source}|#[^\\r\\n]*)`,
    '(?<name>[a-zA-Z_][a-zA-Z0-9_./-]*(?=[ \\t\\r\\n]*[=!])|[a-zA-Z_][a-zA-Z0-9_]*)',
    '(?<lineEnd>\\r)',
    '(?<otherSpace>[^\\S \\t\\n]|\\x85)',
  ].join('|'),
  'g'
);

/**
 * Returns a text that the JavaScript parser reads as Go's reads the original,
 * with the same tokens at the same places: names without characters or meanings
 * of their own, line ends of one kind, no white space that Go does not know.
 */
function mask(text: string): string {
  return text.replace(PART, (part: string, ...args: unknown[]) => {
    const { kept, name, lineEnd } = args[args.length - 1] as Record<string, string | undefined>;
    if (kept !== undefined) {
      return part;
    }
    return name !== undefined ? '_'.repeat(part.length) : lineEnd !== undefined ? '\n' : '\0';
  });
}

/** The keywords of PromQL that cannot be a metric's name in Go's parser. */
const NO_METRIC = /^(atan2|bool|group_left|group_right|ignoring|inf|nan|on)$/i;

/** The label that a name before the braces, or one that stands alone in them, is matched with. */
const METRIC_LABEL = '__name__';

/**
 * Reads a series selector of PromQL, as the server's ParseSelector does; "" and
 * "{}" have no matchers. Regular expressions are left to the server, whose
 * syntax is not the browser's. pkg/profile/testdata/selectors.json has the
 * cases that both sides are tested with.
 *
 * @throws SelectorError
 */
export function parseSelector(text: string): Matcher[] {
  if (/^[ \t\r\n]*$/.test(text)) {
    return [];
  }
  const tree = parser.parse(mask(text));
  tree.iterate({
    enter: (node) => {
      const { type, from, to } = node;
      if (type.name === 'StringLiteral' && !CLOSED_STRING.test(text.slice(from, to))) {
        throw new SelectorError(t('selector.open-quote', 'quote is not closed'), from);
      }
      if (type.isError) {
        throw unexpected(text, node);
      }
    },
  });
  const selector = tree.topNode.getChild('VectorSelector');
  const metric = selector?.getChild('Identifier');
  if (!selector || (metric && NO_METRIC.test(text.slice(metric.from, metric.to)))) {
    throw new SelectorError(t('selector.no-selector', 'not a selector, which is matchers in braces,'), 0);
  }
  const matchers: Matcher[] = [];
  for (let node = selector.getChild('LabelMatchers')?.firstChild; node; node = node.nextSibling) {
    if (node.name === 'QuotedLabelName') {
      matchers.push({ name: METRIC_LABEL, op: '=', value: textOf(node, text) });
    } else if (node.name !== 'LineComment') {
      matchers.push(readMatcher(node, text));
    }
  }
  if (metric) {
    matchers.push({ name: METRIC_LABEL, op: '=', value: textOf(metric, text) });
  }
  return matchers;
}

function readMatcher(node: SyntaxNode, text: string): Matcher {
  const name = node.getChild('LabelName') ?? node.getChild('QuotedLabelName');
  return {
    name: textOf(name, text),
    op: textOf(node.getChild('MatchOp'), text) as Operator,
    value: textOf(node.getChild('StringLiteral'), text),
  };
}

/** The text of a node; that of a string without its quotes and escapes. */
function textOf(node: SyntaxNode | null, text: string): string {
  if (!node) {
    return '';
  }
  const token = text.slice(node.from, node.to);
  return node.name === 'StringLiteral' || node.name === 'QuotedLabelName' ? unquote(token, node.from) : token;
}

/** What a place in a selector should hold, by the node of the parser's error. */
function unexpected(text: string, { node, from }: SyntaxNodeRef): SelectorError {
  const position = from + (/^[ \t\r\n]*/.exec(text.slice(from))?.[0].length ?? 0);
  const due = () => {
    switch (node.parent?.name) {
      case 'LabelMatchers':
        return /[{,]\s*$/.test(text.slice(0, position))
          ? t('selector.expected-name', 'expected a label name')
          : t('selector.expected-end', 'expected "," or "}"');
      case 'UnquotedLabelMatcher':
      case 'QuotedLabelMatcher':
        return node.prevSibling?.name === 'MatchOp'
          ? t('selector.expected-value', 'expected a value in quotes')
          : t('selector.expected-operator', 'expected one of =, !=, =~, !~');
    }
    const code = text.codePointAt(position);
    return code === undefined
      ? t('selector.unexpected-end', 'unexpected end')
      : t('selector.unexpected', 'unexpected {{character}}', {
          character: JSON.stringify(String.fromCodePoint(code)),
          interpolation: UNESCAPED,
        });
  };
  return new SelectorError(due(), position);
}

/** Runs of text, escapes, and what follows a backslash and is no escape. */
const STRING_PART =
  /[^\\]+|\\(?:(?<octal>[0-3][0-7]{2})|x(?<byte>[0-9a-fA-F]{2})|u(?<short>[0-9a-fA-F]{4})|U(?<long>[0-9a-fA-F]{8})|(?<char>[^]))/gu;
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
/** What does not come through as UTF-8, and U+FFFD, which Go's parser takes for that. */
const NO_UTF8 = /[\ufffd\ud800-\udfff]/gu;

/**
 * The value of a string that is closed. Escapes are Go's: \x and octal ones
 * stand for a byte of UTF-8.
 */
function unquote(token: string, position: number): string {
  const quoteChar = token.charAt(0);
  const body = token.slice(1, -1);
  if (token.search(NO_UTF8) >= 0) {
    throw new SelectorError(t('selector.not-utf8-character', 'a character that is not UTF-8'), position + token.search(NO_UTF8));
  }
  if (quoteChar === '`' || !body.includes('\\')) {
    return body;
  }
  const bytes: number[] = [];
  const utf8 = new TextEncoder();
  for (const { 0: part, index, groups = {} } of body.matchAll(STRING_PART)) {
    const { octal, byte, short, long, char } = groups;
    const code = short ?? long;
    if (octal !== undefined || byte !== undefined) {
      bytes.push(octal !== undefined ? parseInt(octal, 8) : parseInt(byte ?? '', 16));
    } else if (code !== undefined) {
      const value = parseInt(code, 16);
      if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) {
        throw new SelectorError(t('selector.no-character', 'no such character'), position + index + 2);
      }
      bytes.push(...utf8.encode(String.fromCodePoint(value)));
    } else if (char !== undefined) {
      const value = char === quoteChar ? char : ESCAPES[char];
      if (value === undefined) {
        throw new SelectorError(
          t('selector.unknown-escape', 'unknown escape {{escape}}', { escape: `\\${char}`, interpolation: UNESCAPED }),
          position + index + 2
        );
      }
      bytes.push(value.charCodeAt(0));
    } else {
      for (const b of utf8.encode(part)) {
        bytes.push(b);
      }
    }
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(new Uint8Array(bytes));
  } catch {
    throw new SelectorError(t('selector.not-utf8-bytes', 'bytes that are not UTF-8'), position);
  }
}

/** The text of matchers, in their order. */
export function formatSelector(matchers: Matcher[]): string {
  return `{${matchers.map(formatMatcher).join(', ')}}`;
}

function formatMatcher({ name, op, value }: Matcher): string {
  return `${PLAIN_NAME.test(name) ? name : quote(name)}${op}${quote(value)}`;
}

/** A value as a string of PromQL. */
export function quote(value: string): string {
  const escaped = value.replace(/[\\"]/g, '\\$&').replace(/\n/g, '\\n').replace(/\r/g, '\\r').replace(/\t/g, '\\t');
  return `"${escaped.replace(NO_UTF8, '\\ufffd')}"`;
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
