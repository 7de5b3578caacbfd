// What a session is right now: the twin of server/protocol/src/session.rs, checked by the same fixtures.
//
// Owns: who is present, who answered what, and: may media flow, may it be kept.

import type { AuthorFields, GatewayJoined, Joined, Left } from '@bindings/envelope';
import type { Role } from '@bindings/policy';
import type { Answer, Participant, Session } from '@bindings/session';
import { clearOf } from './chain';
import { KIND } from './kind';

export interface Sessions {
  list: Session[];
  roles: Record<string, Role>;
}

export function newSessions(): Sessions {
  return { list: [], roles: {} };
}

const ANSWERS: Record<string, Answer> = {
  [KIND.consentRecord]: 'record',
  [KIND.consentCallOnly]: 'call_only',
  [KIND.consentRefused]: 'refused',
};

/** Takes the next event of the log. Events that concern no session change nothing. */
export function applySession(all: Sessions, e: AuthorFields): void {
  if (e.kind === KIND.joined) {
    const { role } = clearOf<Joined>(e);
    if (role) all.roles[e.author] = role;
  }
  if (!e.session) return;
  const role = all.roles[e.author];
  const session = all.list.find((s) => s.id === e.session);
  if (!session) {
    if (e.kind === KIND.sessionCalled) {
      const participants: Record<string, Participant> = role ? { [e.author]: { role, present: true } } : {};
      all.list.push({ id: e.session, caller: e.author, called_at_ms: e.captured_at_ms, participants });
    }
    return;
  }
  if (session.ended_at_ms !== undefined) return;
  switch (e.kind) {
    // The caller coming back calls again with the same session id.
    case KIND.sessionCalled:
    case KIND.sessionJoined: {
      const p = session.participants[e.author];
      if (p) p.present = true;
      else if (role) session.participants[e.author] = { role, present: true };
      return;
    }
    case KIND.sessionLeft: {
      const { who } = clearOf<Left>(e);
      const p = who ? session.participants[who] : undefined;
      if (p) p.present = false;
      return;
    }
    case KIND.gatewayJoined: {
      const { who, way, name } = clearOf<GatewayJoined>(e);
      if (!who || !way || name === undefined) return;
      if (way === 'watch') for (const p of Object.values(session.participants)) if (isPerson(p) && p.answer) p.unaware = true;
      const p = (session.participants[who] ??= { role: 'gateway', present: true });
      // The pseudonym of a person stays a person's.
      if (p.role === 'gateway') Object.assign(p, { present: true, way, name });
      return;
    }
    case KIND.noticeShown: {
      const p = session.participants[e.author];
      if (p) delete p.unaware;
      return;
    }
    case KIND.sessionEnded:
      session.ended_at_ms = e.captured_at_ms;
      return;
    default: {
      const answer = ANSWERS[e.kind];
      const p = session.participants[e.author];
      if (answer && p) p.answer = answer;
    }
  }
}

/** The session that is called or running, if any. */
export function openSession(all: Sessions): Session | undefined {
  return all.list.findLast((s) => s.ended_at_ms === undefined);
}

export function isWaiting(s: Session): boolean {
  const people = Object.values(s.participants);
  return (
    s.ended_at_ms === undefined &&
    s.participants[s.caller]?.present === true &&
    !people.some((p) => p.role === 'expert' && p.present)
  );
}

/** Somebody who is asked, and whose answer counts. The archivist and gateways are programs. */
export function isPerson(p: Participant): boolean {
  return p.role !== 'archivist' && p.role !== 'gateway';
}

/** May media flow from and to this participant? A gateway takes part once a person does, and watches once all of them know. */
export function mayCall(s: Session, who: string): boolean {
  const p = s.participants[who];
  if (s.ended_at_ms !== undefined || !p?.present) return false;
  if (p.role === 'archivist') return mayRecord(s);
  if (isPerson(p)) return inCall(p);
  const callers = Object.values(s.participants).filter((one) => isPerson(one) && one.present && inCall(one));
  return callers.length > 0 && !(p.way === 'watch' && callers.some((one) => one.unaware));
}

function inCall(p: Participant): boolean {
  return p.answer === 'record' || p.answer === 'call_only';
}

/** May media be kept? */
export function mayRecord(s: Session): boolean {
  const present = Object.values(s.participants).filter((p) => p.present);
  const people = present.filter(isPerson);
  return (
    s.ended_at_ms === undefined &&
    present.some((p) => p.role === 'archivist') &&
    people.length > 0 &&
    people.every((p) => p.answer === 'record')
  );
}
