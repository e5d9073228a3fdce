import { type AdHocVariableFilter, type ScopedVars } from '@grafana/data';
import { t } from '@grafana/i18n';
import { escapeRegex, formatSelector, type Matcher, type Operator, tryParseSelector } from './selector';
import { type Baseline, type ProfileQuery, type View } from './types';
import { UNESCAPED } from './unescaped';

type Format = string | ((value: unknown) => string);

/** The part of Grafana's template service that interpolation needs. */
export interface Templates {
  replace(target?: string, scopedVars?: ScopedVars, format?: Format): string;
}

/** Replaces the variables of every field and adds ad hoc filters. */
export function interpolateQuery<Q extends ProfileQuery>(
  query: Q,
  templates: Templates,
  scopedVars: ScopedVars,
  filters: AdHocVariableFilter[] = []
): Q {
  const list = (values?: string[]) => values?.flatMap((value) => interpolateList(value, templates, scopedVars));
  return {
    ...query,
    profileTypeId: templates.replace(query.profileTypeId, scopedVars),
    labelSelector: withFilters(interpolateSelector(query.labelSelector, templates, scopedVars), filters),
    groupBy: list(query.groupBy),
    spanSelector: list(query.spanSelector),
    ...(query.profileIdSelector && { profileIdSelector: list(query.profileIdSelector) }),
    ...(query.functions && { functions: list(query.functions) }),
    ...(query.step !== undefined && { step: templates.replace(query.step, scopedVars) }),
    ...(query.view && { view: interpolateView(query.view, templates, scopedVars) }),
    ...(query.baseline && { baseline: interpolateBaseline(query.baseline, templates, scopedVars, filters) }),
  };
}

/** Replaces the variables of a flame graph's options. Several values of one in a regular expression are alternatives. */
function interpolateView(view: View, templates: Templates, scopedVars: ScopedVars): View {
  const replaced = Object.entries(view).map(([field, value]) => {
    if (Array.isArray(value)) {
      return [field, value.flatMap((text) => interpolateList(text, templates, scopedVars))];
    }
    if (typeof value !== 'string') {
      return [field, value];
    }
    return [field, field === 'function' ? templates.replace(value, scopedVars) : interpolateRegex(value, templates, scopedVars)];
  });
  return Object.fromEntries(replaced);
}

/** Replaces the variables of a baseline. Ad hoc filters join a selector of its own as they join the query's. */
function interpolateBaseline(
  baseline: Baseline,
  templates: Templates,
  scopedVars: ScopedVars,
  filters: AdHocVariableFilter[]
): Baseline {
  const { offset, from, to, labelSelector } = baseline;
  const text = <T>(value: T) => (typeof value === 'string' ? templates.replace(value, scopedVars) : value);
  return {
    ...baseline,
    ...(offset !== undefined && { offset: text(offset) }),
    ...(from !== undefined && { from: text(from) }),
    ...(to !== undefined && { to: text(to) }),
    ...(labelSelector && {
      labelSelector: withFilters(interpolateSelector(labelSelector, templates, scopedVars), filters),
    }),
  };
}

/**
 * Replaces the variables of a selector, matcher by matcher. In =~ and !~ the
 * values of a variable are escaped and joined by "|"; in = and != a variable
 * of several values makes the matcher a regular expression.
 */
export function interpolateSelector(text: string, templates: Templates, scopedVars: ScopedVars): string {
  const matchers = tryParseSelector(text);
  if (!matchers) {
    // A variable stands for a whole matcher or more.
    return templates.replace(text, scopedVars, (value) => asList(value).map(escapeRegex).join('|'));
  }
  if (matchers.length === 0) {
    return text;
  }
  return formatSelector(
    matchers.map((m) =>
      m.op === '=' || m.op === '!='
        ? interpolateEqual(m, templates, scopedVars)
        : { ...m, value: interpolateRegex(m.value, templates, scopedVars) }
    )
  );
}

/** The value of a regular expression, its variables replaced. */
function interpolateRegex(value: string, templates: Templates, scopedVars: ScopedVars): string {
  // A variable of one free text may hold a regular expression of the user's.
  return templates.replace(value, scopedVars, (v) => (Array.isArray(v) ? alternatives(v, isWhole(value)) : String(v)));
}

function interpolateEqual(m: Matcher, templates: Templates, scopedVars: ScopedVars): Matcher {
  const found: string[][] = [];
  const marked = templates.replace(m.value, scopedVars, (v) => {
    found.push(asList(v));
    return `\u0000${found.length - 1}\u0000`;
  });
  const parts = marked.split(/\u0000(\d+)\u0000/);
  const fill = (literal: (s: string) => string, values: (list: string[]) => string) =>
    parts.map((part, i) => (i % 2 === 0 ? literal(part) : values(found[Number(part)] ?? []))).join('');

  // Grafana hands a variable's own "All" value over unformatted: it is a
  // regular expression such as ".*".
  if (found.length === 0 && marked !== m.value && isWhole(m.value) && !m.value.includes(':')) {
    return { ...m, op: asRegex(m.op), value: marked };
  }
  if (found.every((values) => values.length <= 1)) {
    return { ...m, value: fill((s) => s, (values) => values.join('')) };
  }
  return { ...m, op: asRegex(m.op), value: fill(escapeRegex, (values) => alternatives(values, isWhole(m.value))) };
}

function asRegex(op: Operator): Operator {
  return op === '!=' || op === '!~' ? '!~' : '=~';
}

function alternatives(values: unknown[], whole: boolean): string {
  const joined = values.map((v) => escapeRegex(String(v))).join('|');
  return whole || values.length <= 1 ? joined : `(${joined})`;
}

/** Whether a text is one variable and nothing else. */
function isWhole(text: string): boolean {
  return /^(\$\w+|\$\{[^{}]+\}|\[\[[^[\]]+\]\])$/.test(text.trim());
}

function asList(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : value === undefined || value === null ? [] : [String(value)];
}

/** The values of a text that may be a variable of several. */
function interpolateList(text: string, templates: Templates, scopedVars: ScopedVars): string[] {
  let list: string[] | undefined;
  const replaced = templates.replace(text, scopedVars, (value) => {
    list = asList(value);
    return list.join(',');
  });
  const values = list && isWhole(text) ? list : [replaced];
  return values.filter((value) => value !== '');
}

/** Adds ad hoc filters to a selector that has no variables any more. */
export function withFilters(selector: string, filters: AdHocVariableFilter[]): string {
  const wanted = filters.filter((f) => f.key !== '');
  if (wanted.length === 0) {
    return selector;
  }
  const matchers = tryParseSelector(selector);
  if (!matchers) {
    return selector; // The server's answer names what is wrong with it.
  }
  return formatSelector([...matchers, ...wanted.map(filterToMatcher)]);
}

function filterToMatcher(filter: AdHocVariableFilter): Matcher {
  const { key: name, operator, value, values } = filter;
  switch (operator) {
    case '=':
    case '!=':
    case '=~':
    case '!~':
      return { name, op: operator, value };
    case '=|':
    case '!=|':
      return {
        name,
        op: operator === '=|' ? '=~' : '!~',
        value: (values?.length ? values : [value]).map(escapeRegex).join('|'),
      };
    default:
      throw new Error(
        t('filters.unknown-operator', 'filter {{filter}}: labels know the operators =, !=, =~ and !~ only', {
          filter: `${name} ${operator} ${value}`,
          interpolation: UNESCAPED,
        })
      );
  }
}
