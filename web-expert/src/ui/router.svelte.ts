// Which page the address names. Paths are served by the server for every address that is not API or archive.

export type Route =
  | { page: 'login'; next: string }
  | { page: 'cases' }
  | { page: 'field'; id: string | null }
  | { page: 'case' | 'live' | 'replay'; id: string; at_s: number | null; session: string | null }
  | { page: 'unknown' };

const UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const CASE = new RegExp(`^/cases/(${UUID})(?:/(live|replay))?/?$`);

const FIELD = new RegExp(`^/field(?:/(${UUID}))?$`);

export function parse(url: URL): Route {
  const path = url.pathname.replace(/\/+$/, '') || '/';
  if (path === '/' || path === '/cases') return { page: 'cases' };
  if (path === '/login') {
    const next = url.searchParams.get('next') ?? '/cases';
    // Only to ourselves: another site must not be reachable through our login.
    return { page: 'login', next: /^\/(?!\/)/.test(next) ? next : '/cases' };
  }
  const field = FIELD.exec(path);
  if (field) return { page: 'field', id: field[1] ?? null };
  const m = CASE.exec(path);
  if (!m) return { page: 'unknown' };
  const t = url.searchParams.get('t');
  const at_s = t !== null && Number.isFinite(Number(t)) && Number(t) >= 0 ? Number(t) : null;
  const page = m[2] === 'live' ? 'live' : m[2] === 'replay' ? 'replay' : 'case';
  return { page, id: m[1]!, at_s, session: url.searchParams.get('session') };
}

if (location.pathname === '/') history.replaceState(null, '', '/cases');
let current: Route = $state.raw(parse(new URL(location.href)));

export function route(): Route {
  return current;
}

export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  current = parse(new URL(location.href));
}

/** Follows back and forward, and plain clicks on links of ours. */
export function startRouting(): void {
  window.addEventListener('popstate', () => (current = parse(new URL(location.href))));
  document.addEventListener('click', (e) => {
    const a = (e.target as Element | null)?.closest?.('a');
    if (!a || e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    if (a.target || a.hasAttribute('download') || a.origin !== location.origin || a.hash) return;
    if (/^\/(api|archive)\//.test(a.pathname)) return;
    e.preventDefault();
    go(a.pathname + a.search);
  });
}
