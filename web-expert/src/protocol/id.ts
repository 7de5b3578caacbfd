// New ids: UUIDs as lower-case text.
//
// Owns: UUIDv7 for events, so that they sort by time. Elsewhere: what they name (server/protocol/src/id.rs).

/** A UUIDv7 for an event at this time. */
export function newEventId(now_ms: number): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  let t = Math.max(0, Math.floor(now_ms));
  for (let i = 5; i >= 0; i--) {
    b[i] = t % 256;
    t = Math.floor(t / 256);
  }
  b[6] = (b[6]! & 0x0f) | 0x70;
  b[8] = (b[8]! & 0x3f) | 0x80;
  const hex = Array.from(b, (v) => v.toString(16).padStart(2, '0')).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** A random id for a device, a session or a track. */
export function newId(): string {
  return crypto.randomUUID();
}
