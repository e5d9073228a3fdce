import { type DataFrame, type DataFrameJSON, dataFrameFromJSON, type QueryResultMetaNotice } from '@grafana/data';
import { createResources } from '../../../src/resources';
import { type ProfileQuery, type Range } from '../../../src/types';

/** What a query returned. */
export interface Result {
  frames: DataFrame[];
  notices: QueryResultMetaNotice[];
}

/** The health check: what the server is and what is wrong with it. */
export interface Health {
  ok: boolean;
  message: string;
}

interface QueryAnswer {
  results?: Record<string, { error?: string; frames?: DataFrameJSON[] }>;
}

/** A query with what Grafana adds to it for the width of a panel. */
export interface SizedQuery extends ProfileQuery {
  maxDataPoints: number;
  intervalMs: number;
}

/** Runs one query as Grafana's own /api/ds/query does. */
export async function runQuery(query: SizedQuery, range: Range, signal: AbortSignal): Promise<Result> {
  const answer = (await request('api/ds/query', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ queries: [query], from: String(range.from), to: String(range.to) }),
    signal,
  })) as QueryAnswer;
  const result = answer.results?.[query.refId];
  if (result?.error) {
    throw new Error(result.error);
  }
  const frames = (result?.frames ?? []).map((json) => dataFrameFromJSON(json));
  return { frames, notices: frames.flatMap((frame) => frame.meta?.notices ?? []) };
}

/** The same resources as the plugin's. */
export const resources = createResources((path, params) => {
  const search = new URLSearchParams(Object.entries(params).map(([key, value]) => [key, String(value)]));
  return request(`api/resources/${path}?${search.toString()}`);
});

export async function getHealth(signal?: AbortSignal): Promise<Health> {
  const { status, message } = (await request('api/health', { signal })) as { status?: string; message?: string };
  return { ok: status?.toUpperCase() === 'OK', message: message ?? '' };
}

/** Fetches JSON; errors carry the server's own message. */
async function request(path: string, init?: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (err) {
    if (init?.signal?.aborted) {
      throw err;
    }
    throw new Error('The Flameline server does not answer. Is it still running?', { cause: err });
  }
  const text = await response.text();
  const answer = parseJSON(text);
  // A query that failed comes with a status of 400 or 500 and results.
  if (!response.ok && !hasResults(answer)) {
    throw new Error(errorText(answer) ?? (text.trim() || `${response.status} ${response.statusText}`));
  }
  return answer;
}

function parseJSON(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function hasResults(answer: unknown): boolean {
  return typeof answer === 'object' && answer !== null && ('results' in answer || 'status' in answer);
}

function errorText(answer: unknown): string | undefined {
  if (typeof answer !== 'object' || answer === null) {
    return undefined;
  }
  const { message, error } = answer as { message?: unknown; error?: unknown };
  return [message, error].find((text) => typeof text === 'string' && text !== '') as string | undefined;
}
