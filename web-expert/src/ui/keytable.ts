// Single keys as a table: what each does, where, and what somebody made of it.
//
// Owns: defaults, the one rule of conflicts, reading what was kept. Never: touches the page. Elsewhere: keeping and switching
// off (keys.svelte.ts), what the acts do (live/Live.svelte, replay/Replay.svelte).

/** Keys of two places do not meet; those of `everywhere` meet all. */
export type Place = 'everywhere' | 'live' | 'replay';

const KEYS = {
  help: ['everywhere', '?'],
  select: ['live', 'v'],
  laser: ['live', 'l'],
  pen: ['live', 'p'],
  line: ['live', 'i'],
  arrow: ['live', 'a'],
  rectangle: ['live', 'r'],
  ellipse: ['live', 'o'],
  circle: ['live', 'c'],
  text: ['live', 't'],
  step: ['live', 'n'],
  eraser: ['live', 'e'],
  colour1: ['live', '1'],
  colour2: ['live', '2'],
  colour3: ['live', '3'],
  colour4: ['live', '4'],
  colour5: ['live', '5'],
  thinner: ['live', '['],
  thicker: ['live', ']'],
  place: ['live', 'x'],
  others: ['live', 'h'],
  freeze: ['live', 'f'],
  pictureBack: ['live', ','],
  pictureOn: ['live', '.'],
  secondBack: ['live', 'j'],
  secondOn: ['live', 'k'],
  zoomIn: ['live', '+'],
  zoomOut: ['live', '-'],
  zoomFit: ['live', '0'],
  mic: ['live', 'm'],
  photo: ['live', 's'],
  chat: ['live', '/'],
  back5: ['replay', 'j'],
  playPause: ['replay', 'k'],
  forward5: ['replay', 'l'],
  frameBack: ['replay', ','],
  frameOn: ['replay', '.'],
  eventBack: ['replay', 'Shift+p'],
  eventOn: ['replay', 'Shift+n'],
  slower: ['replay', '<'],
  faster: ['replay', '>'],
  mute: ['replay', 'm'],
  copyLink: ['replay', 'c'],
} as const satisfies Record<string, readonly [Place, string]>;

export type Act = keyof typeof KEYS;
export const ACTS = Object.keys(KEYS) as Act[];
/** Chosen keys; null: off. What is not named has its default. */
export type Chosen = Partial<Record<Act, string | null>>;

export function placeOf(act: Act): Place {
  return KEYS[act][0];
}

export function keyOf(act: Act, chosen: Chosen): string | null {
  const own = chosen[act];
  return own === undefined ? KEYS[act][1] : own;
}

export function isDefault(act: Act, chosen: Chosen): boolean {
  return keyOf(act, chosen) === KEYS[act][1];
}

/** A pressed key by its name here: letters small, with `Shift+`; signs as they are. Null: not a single printable key. */
export function nameOf(e: { key: string; shiftKey: boolean }): string | null {
  if ([...e.key].length !== 1 || e.key === ' ') return null;
  const small = e.key.toLowerCase();
  if (small === e.key.toUpperCase()) return e.key;
  return e.shiftKey ? `Shift+${small}` : small;
}

export function actOf(key: string, place: Place, chosen: Chosen): Act | null {
  return ACTS.find((a) => meets(placeOf(a), place) && keyOf(a, chosen) === key) ?? null;
}

/** Who has this key already where the act would use it. */
export function conflict(act: Act, key: string, chosen: Chosen): Act | null {
  return ACTS.find((a) => a !== act && meets(placeOf(a), placeOf(act)) && keyOf(a, chosen) === key) ?? null;
}

/** The act gets this key; whoever had it goes without. */
export function assign(act: Act, key: string | null, chosen: Chosen): Chosen {
  let next = { ...chosen };
  if (key !== null) for (let other = conflict(act, key, next); other; other = conflict(act, key, next)) next = set(other, null, next);
  return set(act, key, next);
}

/** What was kept, as far as it can be read and does not contradict itself. */
export function read(text: string | null): Chosen {
  let kept: unknown;
  try {
    kept = JSON.parse(text ?? '{}');
  } catch {
    return {};
  }
  let chosen: Chosen = {};
  for (const act of ACTS) {
    const key = (kept as Record<string, unknown> | null)?.[act];
    if (key === null || (typeof key === 'string' && nameOf(event(key)) === key)) chosen = set(act, key, chosen);
  }
  // A default may have taken a key since: what was chosen keeps it.
  for (const act of ACTS) {
    const key = chosen[act];
    if (typeof key === 'string') chosen = assign(act, key, chosen);
  }
  return chosen;
}

function event(name: string): { key: string; shiftKey: boolean } {
  const shiftKey = name.startsWith('Shift+');
  return { key: shiftKey ? name.slice(6).toUpperCase() : name, shiftKey };
}

function set(act: Act, key: string | null, chosen: Chosen): Chosen {
  const next = { ...chosen, [act]: key };
  if (key === KEYS[act][1]) delete next[act];
  return next;
}

function meets(a: Place, b: Place): boolean {
  return a === b || a === 'everywhere' || b === 'everywhere';
}
