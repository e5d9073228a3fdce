import { profileTypeName } from '../../../src/profileType';
import { SERVICE_LABEL, tryParseSelector } from '../../../src/selector';
import { type Baseline, DEFAULT_BASELINE } from '../../../src/types';
import { type PageState } from './urlState';

/** What a view shows, as the title of its panel. */
export function titleOf({ queryType, profileTypeId, labelSelector, baseline, sort, heatmap, groupBy }: PageState): string {
  const what = `${profileTypeName(profileTypeId)} of ${servicesOf(labelSelector)}`;
  const before = baselineName(baseline ?? DEFAULT_BASELINE);
  const kind = sort === 'total' ? 'total' : 'own';
  switch (queryType) {
    case 'profile':
      return what;
    case 'comparison':
      return `${what}, compared with ${before}`;
    case 'functions':
      return `${what} by function${baseline ? `, compared with ${before}` : ''}`;
    case 'functionSeries':
      return `${what} by function over time, ${kind} values`;
    case 'heatmap':
      return `${what} over time by ${heatmap === 'offset' ? 'offset in the second' : groupBy?.join(', ') || SERVICE_LABEL}`;
    case 'explain':
      return `What changed in ${what} since ${before}`;
  }
}

function servicesOf(selector: string): string {
  const service = tryParseSelector(selector)?.find((m) => m.name === SERVICE_LABEL);
  return service ? `${service.op === '=' ? '' : `services ${service.op} `}${service.value}` : 'all services';
}

function baselineName({ kind, offset, labelSelector }: Baseline): string {
  const labels = labelSelector ? ` of ${labelSelector}` : '';
  switch (kind) {
    case 'previous':
      return `the window before${labels}`;
    case 'offset':
      return `${offset ?? 'some time'} earlier${labels}`;
    case 'range':
      return `another time${labels}`;
    case 'same':
      return `the same time${labels}`;
  }
}
