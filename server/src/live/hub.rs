//! All connections at once: who has which case open, who is present, what waits in the queue.
//!
//! Owns: the connections, open sessions with their absences, the last queue sent. One task; waits for nobody but the media glue.
//! Never: decides what may be read (each socket asks), writes an event (asks the log to).
//! Elsewhere: one connection (`socket`), media legs (`media`).

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use lotse_protocol::{
    command::{Call, CaseSummary, ItemRef, SentEvent, ServerMessage},
    envelope::LeftWhy,
    id::{CaseId, Pseudonym, SessionId},
    policy::{Relation, Role, Verb, allowed},
    session::Session,
    signal::{RtcAnswer, TrackInfo},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    media::{GatewayAsk, ToMedia},
    push::{Push, Pusher},
};
use crate::{
    refusal::{Code, Language, Refusal},
    store::{
        log::{LogHandle, News, OpenSession, Told},
        reader::without_keys,
    },
};

/// Messages of sockets that may wait. A full queue makes sockets wait, never the log.
const QUEUE: usize = 1024;
/// A participant without a socket is lost after this.
pub const LOST_AFTER: Duration = Duration::from_secs(20);
/// How often absences are looked at.
const TICK: Duration = Duration::from_millis(500);
/// The log is asked again to write somebody's leaving after this, should it have failed.
const ASK_AGAIN: Duration = Duration::from_secs(5);

pub type ConnId = u64;

/// What sockets tell the hub.
pub enum ToHub {
    Connect {
        conn: ConnId,
        role: Role,
        language: Language,
        pusher: Pusher,
    },
    /// Refusals come in this language from now on.
    Language {
        conn: ConnId,
        language: Language,
    },
    Disconnect {
        conn: ConnId,
    },
    /// `done` is answered once every later event of the case will reach this connection.
    Open {
        conn: ConnId,
        case: CaseId,
        me: Pseudonym,
        done: oneshot::Sender<()>,
    },
    Close {
        conn: ConnId,
        case: CaseId,
    },
    Relay {
        conn: ConnId,
        case: CaseId,
        session: SessionId,
        to: Option<Pseudonym>,
        item: ItemRef,
    },
    Media {
        conn: ConnId,
        session: SessionId,
        ask: MediaAsk,
    },
    /// Passed on: whoever asks has an answer of the log, which the hub heard of before.
    Gateway(GatewayAsk),
    /// Leave a session: the media leg and the presence.
    Leave {
        conn: ConnId,
        session: SessionId,
    },
}

/// What a participant wants of its media leg.
pub enum MediaAsk {
    Join(Vec<TrackInfo>),
    Answer(RtcAnswer),
    Watch { track: lotse_protocol::id::TrackId, on: bool },
}

#[derive(Clone)]
pub struct HubHandle(mpsc::Sender<ToHub>);

impl HubHandle {
    pub async fn tell(&self, message: ToHub) {
        // The hub is gone only at shutdown.
        let _ = self.0.send(message).await;
    }

    /// Messages that wait now.
    pub fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }
}

struct Conn {
    role: Role,
    language: Language,
    pusher: Pusher,
    cases: HashMap<CaseId, Pseudonym>,
}

struct LiveSession {
    session: Session,
    summary: CaseSummary,
    caller: Option<SentEvent>,
    /// Present in the log, but without a socket (or leaving): when the log is to be told, and why.
    absent: HashMap<Pseudonym, (Instant, LeftWhy)>,
}

pub struct Hub {
    asks: mpsc::Receiver<ToHub>,
    told: mpsc::Receiver<Told>,
    log: LogHandle,
    media: mpsc::Sender<ToMedia>,
    conns: HashMap<ConnId, Conn>,
    readers: HashMap<CaseId, HashMap<ConnId, Pseudonym>>,
    sessions: BTreeMap<SessionId, LiveSession>,
    waiting: Vec<Call>,
    running: Vec<Call>,
    archivists: usize,
}

impl Hub {
    /// `resumed`: sessions that were open when the server stopped; their people have [`LOST_AFTER`] from now to come back.
    pub async fn start(
        resumed: Vec<OpenSession>,
        told: mpsc::Receiver<Told>,
        log: LogHandle,
        media: mpsc::Sender<ToMedia>,
    ) -> (Self, HubHandle) {
        let (sender, asks) = mpsc::channel(QUEUE);
        let mut hub = Self {
            asks,
            told,
            log,
            media,
            conns: HashMap::new(),
            readers: HashMap::new(),
            sessions: BTreeMap::new(),
            waiting: vec![],
            running: vec![],
            archivists: 0,
        };
        for OpenSession { session, summary, caller } in resumed {
            hub.on_session(summary.case, session, Some(summary), caller).await;
        }
        hub.update_queue();
        (hub, HubHandle(sender))
    }

    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.on_ask(ask).await,
                    None => return,
                },
                Some(told) = self.told.recv() => self.on_told(told).await,
                _ = tick.tick() => {
                    self.look_for_lost(Instant::now());
                    metrics::gauge!("lotse_sockets").set(self.conns.len() as f64);
                    metrics::gauge!("lotse_sessions").set(self.sessions.len() as f64);
                    metrics::gauge!("lotse_calls_waiting").set(self.waiting.len() as f64);
                    metrics::gauge!("lotse_archivists").set(self.archivists as f64);
                }
            }
        }
    }

    async fn on_ask(&mut self, ask: ToHub) {
        match ask {
            ToHub::Connect { conn, role, language, pusher } => self.on_connect(conn, role, language, pusher),
            ToHub::Language { conn, language } => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.language = language;
                }
            }
            ToHub::Disconnect { conn } => self.on_disconnect(conn).await,
            ToHub::Open { conn, case, me, done } => {
                self.on_open(conn, case, me).await;
                let _ = done.send(());
            }
            ToHub::Close { conn, case } => self.on_close(conn, case),
            ToHub::Relay { conn, case, session, to, item } => self.on_relay(conn, case, session, to, item),
            ToHub::Media { conn, session, ask } => self.on_media(conn, session, ask).await,
            ToHub::Gateway(ask) => _ = self.media.send(ToMedia::Gateway(ask)).await,
            ToHub::Leave { conn, session } => self.on_leave(conn, session),
        }
    }

    fn on_connect(&mut self, id: ConnId, role: Role, language: Language, pusher: Pusher) {
        pusher.say(ServerMessage::Archivist { present: self.archivists > 0 || role == Role::Archivist });
        if let Some(calls) = self.queue_for(role) {
            pusher.say(ServerMessage::Queue { calls });
        }
        self.conns.insert(id, Conn { role, language, pusher, cases: HashMap::new() });
        if role == Role::Archivist {
            self.archivists += 1;
            self.tell_archivist();
        }
    }

    async fn on_disconnect(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        if conn.role == Role::Archivist {
            self.archivists -= 1;
            self.tell_archivist();
        }
        for case in conn.cases.keys() {
            self.forget_reader(id, *case);
            self.count_presence(*case);
        }
        let _ = self.media.send(ToMedia::SocketGone { pusher: conn.pusher }).await;
    }

    async fn on_open(&mut self, id: ConnId, case: CaseId, me: Pseudonym) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.cases.insert(case, me);
        let pusher = conn.pusher.clone();
        self.readers.entry(case).or_default().insert(id, me);
        self.count_presence(case);
        for (session, live) in &self.sessions {
            if live.summary.case == case {
                let back = ToMedia::SocketBack { session: *session, who: me, pusher: pusher.clone() };
                let _ = self.media.send(back).await;
            }
        }
    }

    /// Closing a case on purpose is leaving its session, unless another window of the same person has it open.
    fn on_close(&mut self, id: ConnId, case: CaseId) {
        let Some(me) = self.conns.get_mut(&id).and_then(|c| c.cases.remove(&case)) else { return };
        self.forget_reader(id, case);
        if !self.is_connected(case, me) {
            let sessions = self.sessions.values_mut().filter(|s| s.summary.case == case);
            sessions.for_each(|s| s.leave(me));
        }
        self.look_for_lost(Instant::now());
    }

    fn on_leave(&mut self, id: ConnId, session: SessionId) {
        if let Ok((me, _)) = self.participant(id, session)
            && let Some(live) = self.sessions.get_mut(&session)
        {
            live.leave(me);
            self.look_for_lost(Instant::now());
        }
    }

    /// To the people of the session, not to the archivist: what is relayed is not kept.
    fn on_relay(&mut self, id: ConnId, case: CaseId, session: SessionId, to: Option<Pseudonym>, item: ItemRef) {
        let from = match self.participant(id, session) {
            Ok((me, live)) if live.summary.case == case && live.session.may_call(me) => me,
            Ok(_) => return self.refuse(id, Some(case), session, Code::Forbidden),
            Err(code) => return self.refuse(id, Some(case), session, code),
        };
        let Some(live) = self.sessions.get(&session) else { return };
        let hears = |who: Pseudonym| {
            let person = live.session.participants.get(&who).is_some_and(|p| p.role != Role::Archivist);
            who != from && person && to.is_none_or(|to| to == who) && live.session.may_call(who)
        };
        for (conn, who) in self.readers.get(&case).into_iter().flatten() {
            if let Some(conn) = self.conns.get(conn).filter(|_| hears(*who)) {
                conn.pusher.say(ServerMessage::Relayed { case, session, from, item: item.clone() });
            }
        }
    }

    async fn on_media(&mut self, id: ConnId, session: SessionId, ask: MediaAsk) {
        let who = match self.participant(id, session) {
            Ok((me, _)) => me,
            Err(code) => return self.refuse(id, None, session, code),
        };
        let Some(conn) = self.conns.get(&id) else { return };
        let (pusher, language) = (conn.pusher.clone(), conn.language);
        let _ = self.media.send(ToMedia::Ask { session, who, role: conn.role, language, pusher, ask }).await;
    }

    /// Answers go out first, and nothing is asked of the hub before it knows what they stand for.
    async fn on_told(&mut self, mut told: Told) {
        told.answer();
        for news in told.news {
            self.on_news(news).await;
        }
    }

    async fn on_news(&mut self, news: News) {
        let case = news.event.head.case;
        for id in self.readers.get(&case).into_iter().flat_map(|r| r.keys()) {
            if let Some(conn) = self.conns.get(id) {
                conn.pusher.push(Push::Event(news.event.clone()));
            }
        }
        if let Some(session) = news.session {
            self.on_session(case, session, news.summary.clone(), news.caller).await;
        }
        if let Some(summary) = news.summary {
            for live in self.sessions.values_mut().filter(|s| s.summary.case == case) {
                live.summary = summary.clone();
            }
            self.tell_changed(summary);
            self.update_queue();
        }
    }

    /// A session as it is after its newest event. Gates follow in the media glue.
    async fn on_session(
        &mut self,
        case: CaseId,
        session: Session,
        summary: Option<CaseSummary>,
        caller: Option<SentEvent>,
    ) {
        let id = session.id;
        let _ = self.media.send(ToMedia::Session { case, session: session.clone() }).await;
        if session.ended_at_ms.is_some() {
            self.sessions.remove(&id);
            return;
        }
        match (self.sessions.get_mut(&id), summary) {
            (Some(live), _) => {
                live.session = session;
                live.caller = caller.or(live.caller.take());
            }
            (None, Some(summary)) => {
                self.sessions.insert(id, LiveSession { session, summary, caller, absent: HashMap::new() });
            }
            // Its first event always carries a summary.
            (None, None) => return,
        }
        self.count_presence(case);
    }

    /// Starts the clock for who is present without a socket, stops it for who is back.
    fn count_presence(&mut self, case: CaseId) {
        let readers = self.readers.get(&case);
        let connected = |who: &Pseudonym| readers.is_some_and(|r| r.values().any(|p| p == who));
        let lost_at = Instant::now() + LOST_AFTER;
        for live in self.sessions.values_mut().filter(|s| s.summary.case == case) {
            let LiveSession { session, absent, .. } = live;
            // Gateways have no socket: the media glue sees them go.
            let present =
                |who: &Pseudonym| session.participants.get(who).is_some_and(|p| p.present && p.role != Role::Gateway);
            absent.retain(|who, (_, why)| present(who) && (*why == LeftWhy::Left || !connected(who)));
            for who in session.participants.keys().filter(|w| present(w) && !connected(w)) {
                absent.entry(*who).or_insert((lost_at, LeftWhy::Lost));
            }
        }
    }

    fn look_for_lost(&mut self, now: Instant) {
        for (id, live) in &mut self.sessions {
            for (who, (due, why)) in live.absent.iter_mut().filter(|(_, (due, _))| *due <= now) {
                self.log.left(live.summary.case, *id, *who, *why);
                *due = now + ASK_AGAIN;
            }
        }
    }

    /// Who the connection is in this session, if present there. A session of a case that is not open here is as unknown as one
    /// that does not exist: trying ids tells nothing.
    fn participant(&self, id: ConnId, session: SessionId) -> Result<(Pseudonym, &LiveSession), Code> {
        let cases = self.conns.get(&id).map(|c| &c.cases).filter(|cases| !cases.is_empty()).ok_or(Code::NotOpen)?;
        let live = self.sessions.get(&session).ok_or(Code::NoSuchSession)?;
        let me = cases.get(&live.summary.case).ok_or(Code::NoSuchSession)?;
        match live.session.participants.get(me) {
            Some(p) if p.present => Ok((*me, live)),
            _ => Err(Code::NotPresent),
        }
    }

    fn refuse(&self, id: ConnId, case: Option<CaseId>, session: SessionId, code: Code) {
        if let Some(conn) = self.conns.get(&id) {
            let error = Refusal::from(code).api_error(conn.language);
            let session = Some(session);
            conn.pusher.say(ServerMessage::Refused { id: None, case, session, last_device_seq: None, error });
        }
    }

    fn is_connected(&self, case: CaseId, who: Pseudonym) -> bool {
        self.readers.get(&case).is_some_and(|r| r.values().any(|p| *p == who))
    }

    fn forget_reader(&mut self, id: ConnId, case: CaseId) {
        if let Some(readers) = self.readers.get_mut(&case) {
            readers.remove(&id);
            if readers.is_empty() {
                self.readers.remove(&case);
            }
        }
    }

    fn tell_archivist(&self) {
        for conn in self.conns.values() {
            conn.pusher.say(ServerMessage::Archivist { present: self.archivists > 0 });
        }
    }

    /// To everybody who may list the case: technicians only those who have it open.
    fn tell_changed(&self, summary: CaseSummary) {
        for conn in self.conns.values().filter(|c| allowed(c.role, Verb::ListCases, Relation::Outsider)) {
            let mut summary = summary.clone();
            match conn.role {
                Role::Technician if !conn.cases.contains_key(&summary.case) => continue,
                Role::Administrator => summary.card = summary.card.map(without_keys),
                _ => {}
            }
            conn.pusher.say(ServerMessage::CaseChanged { summary });
        }
    }

    fn queue_for(&self, role: Role) -> Option<Vec<Call>> {
        if role == Role::Archivist {
            Some(self.running.clone())
        } else {
            allowed(role, Verb::SeeQueue, Relation::Outsider).then(|| self.waiting.clone())
        }
    }

    /// Tells the queue to those whose queue changed.
    fn update_queue(&mut self) {
        let mut running: Vec<Call> = self
            .sessions
            .values()
            .map(|s| Call {
                session: s.session.id,
                since_ms: s.session.called_at_ms,
                waiting: s.session.is_waiting(),
                summary: s.summary.clone(),
                caller: s.caller.clone(),
            })
            .collect();
        running.sort_by_key(|c| c.since_ms);
        let waiting: Vec<Call> = running.iter().filter(|c| c.waiting).cloned().collect();
        let changed = (running != self.running, waiting != self.waiting);
        (self.running, self.waiting) = (running, waiting);
        for conn in self.conns.values() {
            let is_new = if conn.role == Role::Archivist { changed.0 } else { changed.1 };
            if let Some(calls) = self.queue_for(conn.role).filter(|_| is_new) {
                conn.pusher.say(ServerMessage::Queue { calls });
            }
        }
    }
}

impl LiveSession {
    fn leave(&mut self, who: Pseudonym) {
        if self.session.participants.get(&who).is_some_and(|p| p.present) {
            self.absent.insert(who, (Instant::now(), LeftWhy::Left));
        }
    }
}
