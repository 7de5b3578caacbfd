//! One live connection: reads commands, sends what its owner may know, in order.
//!
//! Owns: which cases are open here and how far each was sent. An event goes out directly when it is the next one, and is read from
//! the store otherwise, so that nothing is missed and nothing comes twice.
//! Never: waited for. Who does not take what is sent, or is silent, is closed with a reason.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
};
use bytes::Bytes;
use lotse_protocol::{
    chain::Head,
    command::{ClientMessage, MAX_MESSAGE_BYTES, SentEvent, ServerMessage},
    envelope::AuthorFields,
    id::{CaseId, Pseudonym, SessionId},
    kind,
    signal::TrackInfo,
};
use tokio::sync::mpsc;

use super::{
    commands::About,
    hub::{ConnId, ToHub},
    push::{self, Overrun, Push, Pusher},
};
use crate::{
    app::App,
    caller::Caller,
    error::Error,
    refusal::{Code, Language, Refusal},
    shutdown::stopped,
    store::reader,
};

/// How often the server pings.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A socket from which nothing came for this long is closed.
const SILENT_AFTER: Duration = Duration::from_secs(15);
/// One message must leave within this, or the socket is too slow.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// A closed socket is read on for this long at most, for the other side's own close.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Events read from the store at once while catching up; between two readings commands are answered.
const CATCH_UP: u32 = 50;
/// When the server stops: this long for the answers to commits that are on their way.
const LAST_CALL: Duration = Duration::from_secs(3);
/// How often the login or device behind a socket is checked again.
const CHECK_EVERY: Duration = Duration::from_secs(15);

/// Close codes of RFC 6455.
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;

/// Why a connection ends.
pub(super) enum End {
    /// The other side is gone.
    Gone,
    Close(u16, &'static str),
}

/// A case open on a connection.
pub(super) struct OpenCase {
    pub me: Pseudonym,
    /// May the caller read it? Becomes true when an event of its own makes it a member.
    pub reads: bool,
    /// Sent up to here.
    pub at: u64,
    pub head: Head,
    pub told_caught_up: bool,
    /// Without the items of `segment` events.
    pub lean: bool,
}

pub(super) struct Socket {
    pub app: Arc<App>,
    pub caller: Caller,
    pub id: ConnId,
    pub pusher: Pusher,
    pub language: Language,
    pub greeted: bool,
    pub cases: HashMap<CaseId, OpenCase>,
    /// Commits asked and not yet answered.
    pub unanswered: usize,
    /// A join that came behind commits, and how many of them still stand before it.
    pub joining: Option<(usize, SessionId, Vec<TrackInfo>)>,
    ws: WebSocket,
    heard: Instant,
    checked: Instant,
}

/// `GET /api/v1/live`
pub async fn live(State(app): State<Arc<App>>, caller: Caller, upgrade: WebSocketUpgrade) -> Response {
    // Somewhat more than the limit is still read, so that the sender can be told what was wrong. Beyond that it is cut off.
    let most = 4 * MAX_MESSAGE_BYTES;
    upgrade.max_message_size(most).max_frame_size(most).on_upgrade(move |ws| async move {
        let (pusher, pushes, overrun) = push::queue();
        let now = Instant::now();
        let language = Language::of(&caller.account.language);
        let socket = Socket {
            id: app.next_conn.fetch_add(1, Ordering::Relaxed),
            pusher,
            language,
            greeted: false,
            cases: HashMap::new(),
            unanswered: 0,
            joining: None,
            ws,
            heard: now,
            checked: now,
            app,
            caller,
        };
        let sockets = socket.app.sockets.clone();
        sockets.send_modify(|open| *open += 1);
        socket.run(pushes, overrun).await;
        sockets.send_modify(|open| *open -= 1);
    })
}

impl Socket {
    async fn run(mut self, mut pushes: mpsc::Receiver<Push>, overrun: Overrun) {
        let mut ping = tokio::time::interval(PING_EVERY);
        let stop = self.app.stop.clone();
        let mut last_call = None;
        let end = loop {
            if last_call.is_some() && self.unanswered == 0 {
                break End::Close(GOING_AWAY, "server_stops");
            }
            let behind = self.cases.iter().find(|(_, c)| c.reads && !c.is_up_to_date()).map(|(id, _)| *id);
            let idle = self.cases.iter().find(|(_, c)| !c.told_caught_up && (!c.reads || c.is_up_to_date()));
            let caught_up = idle.map(|(id, _)| *id);
            let step = tokio::select! {
                // What is said in the last seconds stays unread: it is said again to the next server.
                message = self.ws.recv(), if last_call.is_none() => self.on_frame(message).await,
                Some(push) = pushes.recv() => self.on_push(push).await,
                () = std::future::ready(()), if behind.is_some() || caught_up.is_some() => {
                    match (caught_up, behind) {
                        (Some(case), _) => self.say_caught_up(case).await,
                        (_, Some(case)) => self.catch_up(case).await,
                        _ => Ok(()),
                    }
                }
                _ = ping.tick() => self.on_tick().await,
                () = overrun.happened() => Err(End::Close(POLICY, "too_slow")),
                () = stopped(stop.clone()), if last_call.is_none() => {
                    last_call = Some(tokio::time::Instant::now() + LAST_CALL);
                    Ok(())
                }
                () = tokio::time::sleep_until(last_call.unwrap_or_else(tokio::time::Instant::now)), if last_call.is_some() => {
                    Err(End::Close(GOING_AWAY, "server_stops"))
                }
            };
            if let Err(end) = step {
                break end;
            }
        };
        if self.greeted {
            self.app.hub.tell(ToHub::Disconnect { conn: self.id }).await;
        }
        if let End::Close(code, reason) = end {
            tracing::info!(conn = self.id, reason, "closing a live socket");
            let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            let _ = tokio::time::timeout(SEND_WITHIN, self.ws.send(frame)).await;
            // Bytes left unread would reset the connection, and the reason be lost on its way.
            let answered = async { while let Some(Ok(_)) = self.ws.recv().await {} };
            let _ = tokio::time::timeout(CLOSE_WITHIN, answered).await;
        }
    }

    async fn on_frame(&mut self, frame: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.heard = Instant::now();
        let text = match frame {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => {
                let e = Refusal::with(Code::Malformed, "a live message is text, not binary").into();
                self.refuse(About::default(), &e).await?;
                return Err(End::Close(POLICY, "malformed"));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Close(_))) | None => return Err(End::Gone),
            Some(Err(_)) => return Err(End::Gone),
        };
        if text.len() > MAX_MESSAGE_BYTES {
            return self.too_large().await;
        }
        match serde_json::from_str::<ClientMessage>(&text) {
            Ok(message) => self.on_message(message).await,
            Err(e) => {
                self.refuse(About::default(), &Refusal::with(Code::Malformed, e).into()).await?;
                Err(End::Close(POLICY, "malformed"))
            }
        }
    }

    async fn too_large(&mut self) -> Result<(), End> {
        let e = Refusal::with(Code::TooLarge, MAX_MESSAGE_BYTES).into();
        self.refuse(About::default(), &e).await?;
        Err(End::Close(TOO_BIG, "too_large"))
    }

    /// A commit was answered; the hub knows by now what it stands for, so a join behind it can follow.
    async fn on_answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let Some((before, ..)) = &mut self.joining {
            *before = before.saturating_sub(1);
            if *before == 0 {
                self.join_now().await;
            }
        }
    }

    async fn on_push(&mut self, push: Push) -> Result<(), End> {
        match push {
            Push::Say(message) => self.say(&message).await,
            Push::Answer { case, id, result: Ok(head) } => {
                self.on_answered().await;
                // Only bytes that could be read are ever accepted, so there is an id.
                let Some(id) = id else { return Ok(()) };
                self.say(&ServerMessage::Committed { case, id, seq: head.seq, hash: head.hash }).await
            }
            Push::Answer { case, id, result: Err(e) } => {
                self.on_answered().await;
                self.refuse(About { id, case: Some(case), session: None }, &e).await
            }
            Push::Event(event) => {
                let case = event.head.case;
                let Some(open) = self.cases.get_mut(&case) else { return Ok(()) };
                if event.head.seq > open.head.seq {
                    open.head = event.head;
                }
                if !open.reads && event.fields.author == open.me {
                    if let Err(e) = self.look_again(case).await {
                        tracing::warn!(%case, "could not look at a caller's place again: {e}");
                    }
                    return self.say_session(case).await;
                }
                if !open.reads || event.head.seq != open.at + 1 {
                    // Not for them, sent already, or to be read in order from the store.
                    return if is_of_session(&event.fields) { self.say_session(case).await } else { Ok(()) };
                }
                open.at = event.head.seq;
                self.send_event(case, &event.fields.kind, event.sent.clone()).await
            }
        }
    }

    /// Sends the next events of a case from the store.
    async fn catch_up(&mut self, case: CaseId) -> Result<(), End> {
        let Some(after) = self.cases.get(&case).map(|c| c.at) else { return Ok(()) };
        let read = async {
            let mut db = self.app.store.pool.acquire().await?;
            let lean = self.cases.get(&case).is_some_and(|c| c.lean);
            reader::events(&mut db, &self.app.keys, case, after, CATCH_UP, lean).await
        };
        let events = match read.await {
            Ok(events) if !events.is_empty() => events,
            Ok(_) => return Err(End::Close(GOING_AWAY, "broken")),
            Err(e) => {
                self.refuse(About { case: Some(case), ..About::default() }, &e).await?;
                return Err(End::Close(GOING_AWAY, "broken"));
            }
        };
        for event in events {
            self.send_event(case, &event.kind, event.sent).await?;
            if let Some(open) = self.cases.get_mut(&case) {
                open.at = event.head.seq;
                if event.head.seq >= open.head.seq {
                    open.head = event.head;
                }
            }
        }
        Ok(())
    }

    async fn say_caught_up(&mut self, case: CaseId) -> Result<(), End> {
        let Some(open) = self.cases.get_mut(&case) else { return Ok(()) };
        open.told_caught_up = true;
        let head = open.head;
        self.say(&ServerMessage::CaughtUp { case, head }).await
    }

    async fn send_event(&mut self, case: CaseId, kind: &str, mut event: SentEvent) -> Result<(), End> {
        if kind == kind::SEGMENT && self.cases.get(&case).is_some_and(|open| open.lean) {
            event.items.clear();
        }
        self.say(&ServerMessage::Event { case, event }).await
    }

    async fn on_tick(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > SILENT_AFTER {
            return Err(End::Close(GOING_AWAY, "silent"));
        }
        if self.checked.elapsed() > CHECK_EVERY {
            self.checked = Instant::now();
            if matches!(self.caller.still_valid(&self.app).await, Ok(false)) {
                return Err(End::Close(POLICY, "revoked"));
            }
        }
        self.send(Message::Ping(Bytes::new())).await
    }

    pub(super) async fn refuse(&mut self, about: About, e: &Error) -> Result<(), End> {
        let About { id, case, session } = about;
        let last_device_seq = e.refusal().and_then(|r| r.last_device_seq);
        let error = e.api_error(self.language);
        self.say(&ServerMessage::Refused { id, case, session, last_device_seq, error }).await
    }

    pub(super) async fn say(&mut self, message: &ServerMessage) -> Result<(), End> {
        // Plain structs with string keys: serialising them cannot fail.
        let text = serde_json::to_string(message).unwrap_or_default();
        self.send(Message::Text(text.into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(SEND_WITHIN, self.ws.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Close(POLICY, "too_slow")),
        }
    }
}

/// Does an event of this kind change who is in a session, or what was answered?
fn is_of_session(fields: &AuthorFields) -> bool {
    fields.session.is_some()
        && !matches!(fields.kind.as_str(), kind::SEGMENT | kind::GAP | kind::MESSAGE | kind::RECEIPT | kind::LINK_STATE)
}

impl OpenCase {
    pub(super) fn is_up_to_date(&self) -> bool {
        self.at >= self.head.seq
    }
}
