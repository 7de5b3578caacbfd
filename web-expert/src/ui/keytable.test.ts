// Keys can be moved and switched off, and never do two things at one place.

import { describe, expect, it } from 'vitest';
import { ACTS, actOf, assign, conflict, isDefault, keyOf, nameOf, placeOf, read, type Chosen } from './keytable';

/** No key does two things where both could act. */
function clear(chosen: Chosen): void {
  for (const act of ACTS) {
    const key = keyOf(act, chosen);
    if (key !== null) expect(conflict(act, key, chosen), `${act} ${key}`).toBeNull();
  }
}

describe('keys', () => {
  it('have defaults that do not meet', () => clear({}));

  it.each([
    [{ key: 'M', shiftKey: false }, 'm'],
    [{ key: 'P', shiftKey: true }, 'Shift+p'],
    [{ key: '?', shiftKey: true }, '?'],
    [{ key: 'ß', shiftKey: false }, 'ß'],
    [{ key: ' ', shiftKey: false }, null],
    [{ key: 'Enter', shiftKey: false }, null],
    [{ key: 'F5', shiftKey: false }, null],
  ])('%o is %s', (e, name) => expect(nameOf(e)).toBe(name));

  it('act where they belong', () => {
    expect(actOf('m', 'live', {})).toBe('mic');
    expect(actOf('m', 'replay', {})).toBe('mute');
    expect(actOf('?', 'live', {})).toBe('help');
    expect(actOf('m', 'everywhere', { mic: null, mute: null })).toBeNull();
  });

  it('move; whoever had the key goes without, the other place keeps its own', () => {
    expect(conflict('pen', 'm', {})).toBe('mic');
    const chosen = assign('pen', 'm', {});
    expect([keyOf('pen', chosen), keyOf('mic', chosen), keyOf('mute', chosen)]).toEqual(['m', null, 'm']);
    expect(actOf('p', 'live', chosen)).toBeNull();
    clear(chosen);
    // An act of everywhere takes it from both.
    const both = assign('help', 'm', {});
    expect([keyOf('mic', both), keyOf('mute', both)]).toEqual([null, null]);
    clear(both);
  });

  it('are remembered, and nothing more than what differs', () => {
    const chosen = assign('chat', null, assign('pen', 'Shift+q', {}));
    expect(read(JSON.stringify(chosen))).toEqual(chosen);
    expect(assign('pen', 'p', chosen)).toEqual({ chat: null });
    expect(isDefault('pen', assign('pen', 'p', chosen))).toBe(true);
  });

  it.each(['', 'null', '[]', '{"pen":7}', '{"pen":"Enter"}', '{"pen":" "}', '{"nobody":"q"}', '{'])('read %s as no choice', (text) => expect(read(text)).toEqual({}));

  it('that were kept twice come out once', () => {
    const chosen = read('{"pen":"q","line":"q","arrow":"m"}');
    clear(chosen);
    expect(ACTS.filter((a) => placeOf(a) === 'live' && keyOf(a, chosen) === 'q').length).toBe(1);
  });
});
