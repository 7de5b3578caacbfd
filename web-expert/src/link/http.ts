// Requests to the server: one function per call, errors as a union the pages can put into words.
//
// Owns: status codes, error bodies, upload progress. Never: retries by itself.

import type { ApiError, ErrorBody } from '@bindings/ApiError';
import type { CaseSummary } from '@bindings/command';
import type { Role } from '@bindings/policy';
import type { Bytes } from '../protocol/bytes';
import { language } from '../strings/index.svelte';

export interface Me {
  user: string;
  name: string;
  role: Role;
  language: string;
  device_key_known?: boolean;
}

export interface Registers {
  customers: { id: string; name: string }[];
  sites: { id: string; customer: string; name: string }[];
  assets: { id: string; site: string; name: string; serial: string }[];
}

export type HttpProblem =
  | { why: 'offline' }
  | { why: 'refused'; status: number; error: ApiError; retryAfterSeconds: number | null };

export class HttpError extends Error {
  constructor(readonly problem: HttpProblem) {
    super(problem.why === 'offline' ? 'offline' : problem.error.code);
  }

  get status(): number {
    return this.problem.why === 'refused' ? this.problem.status : 0;
  }
}

/** No answer within this long counts as offline. */
const TIMEOUT_MS = 20_000;

export const api = {
  login: (user: string, password: string, device_key: string) =>
    json<Me>('POST', '/api/v1/login', { user, password, device_key }),
  logout: () => json<void>('POST', '/api/v1/logout'),
  me: () => json<Me>('GET', '/api/v1/me'),
  cases: (after?: string) =>
    json<{ cases: CaseSummary[]; next: string | null }>(
      'GET',
      `/api/v1/cases?limit=50${after ? `&after=${encodeURIComponent(after)}` : ''}`,
    ),
  registers: () => json<Registers>('GET', '/api/v1/registers'),
  openCase: (language: string, asset?: string) => json<CaseSummary>('POST', '/api/v1/cases', { language, ...(asset ? { asset } : {}) }),
  grant: (caseId: string, event: string, verb: 'replay' | 'export') =>
    json<{ grant: string; expires_ms: number }>('POST', `/api/v1/cases/${caseId}/grants`, { event, verb }),
  item: (caseId: string, digest: string) => bytes(`/api/v1/cases/${caseId}/items/${digest}`),
  media: (caseId: string, digest: string, grant: string) =>
    bytes(`/archive/cases/${caseId}/media/${digest}?grant=${encodeURIComponent(grant)}`),
  bundleUrl: (caseId: string, grant: string) => `/archive/cases/${caseId}/bundle?grant=${encodeURIComponent(grant)}`,
};

/** Uploads sealed bytes; `onSent` gets 0..1. */
export function putItem(caseId: string, digest: string, sealed: Bytes, onSent?: (part: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open('PUT', `/api/v1/cases/${caseId}/items/${digest}`);
    x.setRequestHeader('Accept-Language', language());
    x.setRequestHeader('Content-Type', 'application/octet-stream');
    x.upload.onprogress = (e) => onSent?.(e.lengthComputable ? e.loaded / e.total : 0);
    x.onload = () => {
      if (x.status < 300) return resolve();
      reject(new HttpError(refusal(x.status, x.responseText, x.getResponseHeader('Retry-After'))));
    };
    x.onerror = () => reject(new HttpError({ why: 'offline' }));
    x.ontimeout = x.onerror;
    x.send(sealed);
  });
}

async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
  const reply = await ask(path, {
    method,
    headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await reply.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

async function bytes(path: string): Promise<Bytes> {
  return new Uint8Array(await (await ask(path, {})).arrayBuffer());
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  let reply: Response;
  try {
    reply = await fetch(path, {
      ...init,
      headers: { ...(init.headers as Record<string, string>), 'Accept-Language': language() },
      credentials: 'same-origin',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new HttpError({ why: 'offline' });
  }
  if (!reply.ok) {
    throw new HttpError(refusal(reply.status, await reply.text().catch(() => ''), reply.headers.get('Retry-After')));
  }
  return reply;
}

/** An error body, or a plain one where something in between answered. */
function refusal(status: number, text: string, retryAfter: string | null): HttpProblem {
  let error: ApiError = { code: `http_${status}`, message: '', request_id: '' };
  try {
    error = (JSON.parse(text) as ErrorBody).error ?? error;
  } catch {
    // Not ours: the code says what is known.
  }
  const seconds = Number(retryAfter);
  // 502 to 504: a proxy stands, the server behind it does not.
  if (status >= 502 && status <= 504 && !error.message) return { why: 'offline' };
  return { why: 'refused', status, error, retryAfterSeconds: seconds > 0 ? seconds : null };
}
