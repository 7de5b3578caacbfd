// What a case is, folded from its log: people, sessions, words, instructions with receipts, recordings, looks.
//
// Owns: the meaning of each kind of event for the pages. Never: asks the network or a clock.
// Elsewhere: presence and consent (session.ts), media fragments (replay/media.ts).

import type { GatewayJoined, Joined, Left, Opened } from '@bindings/envelope';
import type {
  CaseCard,
  FileInfo,
  GapPayload,
  Instruction,
  JoinedPayload,
  LinkStatePayload,
  Message,
  Outcome,
  ReceiptPayload,
  ReceiptState,
  RecordingStarted,
  RecordingStopped,
  SegmentPayload,
  SnapshotPayload,
  StopWhy,
  ViewedPayload,
} from '@bindings/payload';
import type { Role } from '@bindings/policy';
import type { Answer } from '@bindings/session';
import { clearOf } from './chain';
import { KIND } from './kind';
import type { Entry } from './log';
import { applySession, newSessions, type Sessions } from './session';

/** An attached item with what opens it; no key when it is not ours to open. */
export interface Attached {
  digest: string;
  key?: string;
}

export interface Person {
  id: string;
  name: string;
  device: string;
  role: Role;
}

export interface ChatLine {
  id: string;
  author: string;
  at_ms: number;
  text: string;
  file?: FileInfo;
  attached?: Attached;
}

export interface InstructionState {
  id: string;
  seq: number;
  session?: string;
  author: string;
  at_ms: number;
  body: Instruction;
  picture?: Attached;
  /** When each state was reached, exact ms. */
  receipts: Partial<Record<ReceiptState, number>>;
}

export interface SnapshotState {
  id: string;
  author: string;
  at_ms: number;
  body: SnapshotPayload;
  picture?: Attached;
}

export interface Recording {
  session: string;
  from_ms: number;
  to_ms?: number;
  why?: StopWhy;
}

export interface Look {
  id: string;
  author: string;
  at_ms: number;
  reason: string;
  verb: 'viewed' | 'exported';
}

/** Something that happened, for lists and timelines. */
export interface Moment {
  id: string;
  seq: number;
  kind: string;
  author: string;
  session?: string;
  at_ms: number;
  /** The person an event of the server is about (`session.left`). */
  about?: string;
  /** A word to add: an answer, a state, a reason. */
  detail?: string;
  /** The instruction a receipt answers. */
  ref?: string;
  /** How long a gap is. */
  lasts_ms?: number;
  /** What a link carried. */
  kbit?: number;
}

export interface Segment {
  session?: string;
  digest: string;
  key?: string;
  body: SegmentPayload;
}

export interface CaseView {
  id: string;
  number: string;
  language: string;
  opened_at_ms: number;
  card: CaseCard | null;
  people: Record<string, Person>;
  sessions: Sessions;
  chat: ChatLine[];
  instructions: InstructionState[];
  snapshots: SnapshotState[];
  recordings: Recording[];
  gaps: { session?: string; body: GapPayload }[];
  /** What people last said of their own links, by author. */
  links: Record<string, { session?: string; body: LinkStatePayload }>;
  looks: Look[];
  outcomes: Record<string, { body: Outcome | null; author: string; at_ms: number }>;
  moments: Moment[];
}

export function newCaseView(id: string): CaseView {
  return {
    id,
    number: '',
    language: 'de',
    opened_at_ms: 0,
    card: null,
    people: {},
    sessions: newSessions(),
    chat: [],
    instructions: [],
    snapshots: [],
    recordings: [],
    gaps: [],
    links: {},
    looks: [],
    outcomes: {},
    moments: [],
  };
}

const ANSWER_OF: Record<string, Answer> = {
  [KIND.consentRecord]: 'record',
  [KIND.consentCallOnly]: 'call_only',
  [KIND.consentRefused]: 'refused',
};

/** Takes the next entry. `onSegment` gets media fragments, which are too many to be kept here. */
export function applyEntry(view: CaseView, e: Entry, onSegment: (s: Segment) => void = () => {}): void {
  applySession(view.sessions, e.author);
  const { id, kind, author, session, captured_at_ms: at_ms } = e.author;
  const moment: Moment = { id, seq: e.server.seq, kind, author, at_ms };
  if (session) moment.session = session;
  const apply = APPLY[kind];
  const keep = apply ? apply(view, e, moment, onSegment) : undefined;
  if (keep !== false) view.moments.push(moment);
}

type Apply = (view: CaseView, e: Entry, moment: Moment, onSegment: (s: Segment) => void) => boolean | void;

const APPLY: Record<string, Apply> = {
  [KIND.opened]: (view, e) => {
    const c = clearOf<Opened>(e.author);
    view.number = c.number ?? '';
    view.language = c.language ?? 'de';
    view.opened_at_ms = e.author.captured_at_ms;
  },
  [KIND.joined]: (view, e) => {
    const p = e.payload as JoinedPayload | undefined;
    const role = clearOf<Joined>(e.author).role ?? 'expert';
    const known = view.people[e.author.author];
    view.people[e.author.author] = {
      id: e.author.author,
      name: p?.name ?? known?.name ?? '',
      device: p?.device ?? known?.device ?? '',
      role,
    };
    // A new tab of somebody already here is no news.
    return known === undefined;
  },
  [KIND.card]: (view, e) => {
    if (e.payload) view.card = e.payload as CaseCard;
  },
  [KIND.gatewayJoined]: (view, e, moment) => {
    const { who, name } = clearOf<GatewayJoined>(e.author);
    if (!who) return;
    view.people[who] = { id: who, name: name ?? '', device: '', role: 'gateway' };
    moment.about = who;
  },
  [KIND.message]: (view, e) => {
    const p = e.payload as Message | undefined;
    const attached = attachment(e);
    view.chat.push({
      id: e.author.id,
      author: e.author.author,
      at_ms: e.author.captured_at_ms,
      text: p?.text ?? '',
      ...(p?.file ? { file: p.file } : {}),
      ...(attached ? { attached } : {}),
    });
  },
  [KIND.sessionCalled]: (view, e) => isFirst(view, e, KIND.sessionCalled),
  [KIND.sessionJoined]: (view, e) => isFirst(view, e, KIND.sessionJoined),
  [KIND.sessionLeft]: (_view, e, moment) => {
    const left = clearOf<Left>(e.author);
    if (left.who) moment.about = left.who;
    if (left.why) moment.detail = left.why;
  },
  [KIND.sessionEnded]: (view, e, moment) => {
    const body = (e.payload as Outcome | undefined) ?? null;
    if (e.author.session) {
      view.outcomes[e.author.session] ??= { body, author: e.author.author, at_ms: e.author.captured_at_ms };
    }
    if (body) moment.detail = body.result;
  },
  [KIND.consentRecord]: answered,
  [KIND.consentCallOnly]: answered,
  [KIND.consentRefused]: answered,
  [KIND.snapshot]: (view, e) => {
    const body = e.payload as SnapshotPayload | undefined;
    const picture = attachment(e);
    if (!body) return;
    const { id, author, captured_at_ms: at_ms } = e.author;
    view.snapshots.push({ id, author, at_ms, body, ...(picture ? { picture } : {}) });
  },
  [KIND.instruction]: (view, e) => {
    const body = e.payload as Instruction | undefined;
    const picture = attachment(e);
    if (!body || !Array.isArray(body.marks)) return;
    view.instructions.push({
      id: e.author.id,
      seq: e.server.seq,
      author: e.author.author,
      at_ms: body.at_ms,
      body,
      receipts: {},
      ...(e.author.session ? { session: e.author.session } : {}),
      ...(picture ? { picture } : {}),
    });
  },
  [KIND.receipt]: (view, e, moment) => {
    const body = e.payload as ReceiptPayload | undefined;
    const instruction = view.instructions.find((i) => i.id === body?.instruction);
    if (!body || !instruction) return false;
    instruction.receipts[body.state] ??= body.at_ms;
    // The envelope carries whole minutes, the payload the exact time.
    moment.at_ms = body.at_ms;
    moment.detail = body.state;
    moment.ref = body.instruction;
  },
  [KIND.linkState]: (view, e, moment) => {
    const body = e.payload as LinkStatePayload | undefined;
    if (!body) return false;
    view.links[e.author.author] = { body, ...(e.author.session ? { session: e.author.session } : {}) };
    // An outage is told when it is over.
    moment.at_ms = body.at_ms;
    moment.detail = body.state === 'poor' || body.state === 'offline' ? (body.why ?? body.state) : body.state;
    if (body.kbit !== undefined) moment.kbit = body.kbit;
  },
  [KIND.recordingStarted]: (view, e, moment) => {
    const body = e.payload as RecordingStarted | undefined;
    const from_ms = body?.at_ms ?? e.author.captured_at_ms;
    moment.at_ms = from_ms;
    if (e.author.session) view.recordings.push({ session: e.author.session, from_ms });
  },
  [KIND.recordingStopped]: (view, e, moment) => {
    const body = e.payload as RecordingStopped | undefined;
    const open = view.recordings.findLast((r) => r.session === e.author.session && r.to_ms === undefined);
    moment.at_ms = body?.at_ms ?? e.author.captured_at_ms;
    if (open) {
      open.to_ms = moment.at_ms;
      if (body) open.why = body.why;
    }
    if (body) moment.detail = body.why;
  },
  [KIND.segment]: (_view, e, _moment, onSegment) => {
    const body = e.payload as SegmentPayload | undefined;
    const media = attachment(e);
    if (body && media) {
      onSegment({ ...media, body, ...(e.author.session ? { session: e.author.session } : {}) });
    }
    return false;
  },
  [KIND.gap]: (view, e, moment) => {
    const body = e.payload as GapPayload | undefined;
    if (!body) return;
    view.gaps.push({ body, ...(e.author.session ? { session: e.author.session } : {}) });
    moment.at_ms = body.from_us / 1000;
    moment.lasts_ms = (body.to_us - body.from_us) / 1000;
    moment.detail = body.why;
    moment.about = body.owner;
  },
  [KIND.viewed]: looked('viewed'),
  [KIND.exported]: looked('exported'),
};

function looked(verb: Look['verb']): Apply {
  return (view, e, moment) => {
    const reason = (e.payload as ViewedPayload | undefined)?.reason ?? '';
    view.looks.push({ id: e.author.id, author: e.author.author, at_ms: e.author.captured_at_ms, reason, verb });
    moment.detail = reason;
  };
}

function answered(_view: CaseView, e: Entry, moment: Moment): void {
  moment.detail = ANSWER_OF[e.author.kind] ?? '';
}

/** Coming back to the same session is told by the participant's state, not by a second line. */
function isFirst(view: CaseView, e: Entry, kind: string): boolean {
  const { session, author } = e.author;
  return !view.moments.some((m) => m.kind === kind && m.session === session && m.author === author);
}

function attachment(e: Entry): Attached | undefined {
  const digest = e.author.attachments?.[0];
  if (!digest) return undefined;
  const key = e.items.get(digest)?.key;
  return key ? { digest, key } : { digest };
}

/** How far an instruction has come; refused outranks done only when it came later. */
export function furthest(receipts: InstructionState['receipts']): 'sent' | ReceiptState {
  const { done, refused } = receipts;
  if (refused !== undefined && (done === undefined || refused >= done)) return 'refused';
  if (done !== undefined) return 'done';
  return receipts.seen !== undefined ? 'seen' : receipts.shown !== undefined ? 'shown' : 'sent';
}

/** The recording that runs right now in this session, by the log. */
export function runningRecording(view: CaseView, session: string): Recording | undefined {
  return view.recordings.findLast((r) => r.session === session && r.to_ms === undefined);
}
