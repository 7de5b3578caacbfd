//! What each message of a client does: one function per message, the table is [`Socket::on_message`].
//!
//! Never: waits for a commit. Its answer comes through the socket's own queue, so that commits share a disk sync;
//! a media join behind commits is kept until they are answered.

use lotse_protocol::{
    chain::sign_head,
    command::{ClientMessage, ServerMessage},
    envelope::{self, AuthorFields},
    id::{CaseId, EventId, SessionId},
    policy::{Relation, Role, Verb, allowed},
    signal::{RtcAnswer, fingerprint_text},
};

use super::{
    hub::{MediaAsk, ToHub},
    push::Push,
    socket::{End, OpenCase, Socket},
};
use crate::{
    caller::By,
    error::Error,
    refusal::{Code, Language, Refusal},
    store::{log::Commit, now_ms, now_us},
};

/// Cases one socket may have open: a desk with many windows, not a crawler.
const MOST_OPEN: usize = 64;
/// The archivist has the case of every running session open: more than any machine carries, and some megabytes at most.
const MOST_RECORDED: usize = 4_096;

/// What a refusal is about.
#[derive(Default, Clone, Copy)]
pub(super) struct About {
    pub id: Option<EventId>,
    pub case: Option<CaseId>,
    pub session: Option<SessionId>,
}

impl Socket {
    pub(super) async fn on_message(&mut self, message: ClientMessage) -> Result<(), End> {
        if !self.greeted && !matches!(message, ClientMessage::Hello { .. }) {
            return self.refuse(About::default(), &Code::HelloFirst.into()).await;
        }
        match message {
            ClientMessage::Hello { language } => self.on_hello(&language).await,
            ClientMessage::Ping { t0_us } => {
                // Behind what waits already: who has the answer has everything that was said before.
                self.pusher.say(ServerMessage::Pong { t0_us, server_us: now_us() });
                Ok(())
            }
            ClientMessage::OpenCase { case, after_seq, lean } => {
                let about = About { case: Some(case), ..About::default() };
                match self.on_open_case(case, after_seq, lean).await {
                    Ok(message) => {
                        self.say(&message).await?;
                        self.say_session(case).await
                    }
                    Err(e) => self.refuse(about, &e).await,
                }
            }
            ClientMessage::CloseCase { case } => {
                self.cases.remove(&case);
                self.app.hub.tell(ToHub::Close { conn: self.id, case }).await;
                Ok(())
            }
            ClientMessage::Commit { case, author, sig, items } => {
                let id = AuthorFields::read(&author).ok().map(|f| f.id);
                if !self.cases.contains_key(&case) {
                    let about = About { id, case: Some(case), session: None };
                    return self.refuse(about, &Code::NotOpen.into()).await;
                }
                let pusher = self.pusher.clone();
                let commit = Commit {
                    account: self.caller.account.id,
                    role: self.caller.role(),
                    case,
                    author,
                    sig,
                    items,
                    answer: Box::new(move |result| pusher.push(Push::Answer { case, id, result })),
                };
                match self.app.log.commit(commit).await {
                    Ok(()) => {
                        self.unanswered += 1;
                        Ok(())
                    }
                    Err(e) => self.refuse(About { id, case: Some(case), session: None }, &e).await,
                }
            }
            ClientMessage::Relay { case, session, to, item } => {
                self.app.hub.tell(ToHub::Relay { conn: self.id, case, session, to, item }).await;
                Ok(())
            }
            ClientMessage::RtcJoin { session, publish, .. } => {
                let refused = publish.len() > lotse_sfu::MAX_TRACKS;
                if refused {
                    let about = About { session: Some(session), ..About::default() };
                    let e =
                        Refusal::with(Code::Malformed, format!("publish: more than {} tracks", lotse_sfu::MAX_TRACKS));
                    return self.refuse(about, &e.into()).await;
                }
                // Asked behind one's own `session_joined`, without waiting for its answer: it counts once that stands.
                self.join_now().await;
                self.joining = Some((self.unanswered, session, publish));
                if self.unanswered == 0 {
                    self.join_now().await;
                }
                Ok(())
            }
            ClientMessage::RtcAnswer { session, answer } => match self.check_fingerprint(session, &answer) {
                Ok(()) => self.media(session, MediaAsk::Answer(answer)).await,
                Err(e) => self.refuse(About { session: Some(session), ..About::default() }, &e).await,
            },
            ClientMessage::RtcWatch { session, track, on } => self.media(session, MediaAsk::Watch { track, on }).await,
            ClientMessage::RtcLeave { session } => {
                self.joining.take_if(|(_, joining, _)| *joining == session);
                self.app.hub.tell(ToHub::Leave { conn: self.id, session }).await;
                Ok(())
            }
        }
    }

    async fn on_hello(&mut self, language: &str) -> Result<(), End> {
        let (conn, language) = (self.id, Language::of(language));
        self.language = language;
        let told = if self.greeted {
            ToHub::Language { conn, language }
        } else {
            ToHub::Connect { conn, role: self.caller.role(), language, pusher: self.pusher.clone() }
        };
        self.greeted = true;
        self.app.hub.tell(told).await;
        Ok(())
    }

    /// Gives the caller a place in the case. What it may read follows from its relation, now or when that changes.
    async fn on_open_case(&mut self, case: CaseId, after_seq: u64, lean: bool) -> Result<ServerMessage, Error> {
        let role = self.caller.role();
        let most = if role == Role::Archivist { MOST_RECORDED } else { MOST_OPEN };
        if self.cases.len() >= most && !self.cases.contains_key(&case) {
            return Err(Refusal::with(Code::TooManyOpen, most).into());
        }
        let standing = self.app.log.enter(self.caller.account.id, role, case).await?;
        let (done, opened) = tokio::sync::oneshot::channel();
        self.app.hub.tell(ToHub::Open { conn: self.id, case, me: standing.me, done }).await;
        opened.await.map_err(|_| Code::Busy)?;
        // Asked again: what was committed before the hub knew of this reader is in this head, the rest it is told.
        let standing = self.app.log.standing(self.caller.account.id, role, case).await?;
        let open = OpenCase {
            me: standing.me,
            reads: allowed(role, Verb::Read, standing.relation),
            at: after_seq.min(standing.head.seq),
            head: standing.head,
            told_caught_up: false,
            lean,
        };
        self.cases.insert(case, open);
        let head = sign_head(&self.app.keys.signing, standing.head, now_ms());
        Ok(ServerMessage::CaseOpened { case, me: standing.me, role, head })
    }

    /// After an event of one's own: does it make one a reader?
    pub(super) async fn look_again(&mut self, case: CaseId) -> Result<(), Error> {
        let role = self.caller.role();
        let standing = self.app.log.standing(self.caller.account.id, role, case).await?;
        if let Some(open) = self.cases.get_mut(&case)
            && standing.relation > Relation::Outsider
            && allowed(role, Verb::Read, standing.relation)
        {
            open.reads = true;
            open.told_caught_up = false;
            if standing.head.seq > open.head.seq {
                open.head = standing.head;
            }
        }
        Ok(())
    }

    /// The session as it is, to a reader who will need a while to get there by the log.
    pub(super) async fn say_session(&mut self, case: CaseId) -> Result<(), End> {
        if !self.cases.get(&case).is_some_and(|open| open.reads && !open.is_up_to_date()) {
            return Ok(());
        }
        match self.app.log.standing(self.caller.account.id, self.caller.role(), case).await {
            Ok(standing) => self.say(&ServerMessage::SessionNow { case, session: standing.session }).await,
            // The log will say it.
            Err(_) => Ok(()),
        }
    }

    pub(super) async fn join_now(&mut self) {
        if let Some((_, session, publish)) = self.joining.take() {
            self.app.hub.tell(ToHub::Media { conn: self.id, session, ask: MediaAsk::Join(publish) }).await;
        }
    }

    async fn media(&mut self, session: SessionId, ask: MediaAsk) -> Result<(), End> {
        self.app.hub.tell(ToHub::Media { conn: self.id, session, ask }).await;
        Ok(())
    }

    /// A device binds its DTLS certificate to the session with its long-term key, so that nobody in between can take its place.
    fn check_fingerprint(&self, session: SessionId, answer: &RtcAnswer) -> Result<(), Error> {
        let By::Device { key, .. } = &self.caller.by else { return Ok(()) };
        let mut prints = answer.sdp.lines().filter_map(|l| l.trim().strip_prefix("a=fingerprint:")).map(str::trim);
        let first = prints.next().ok_or(Code::BadFingerprint)?;
        let sig = answer.fingerprint_sig.as_ref().ok_or(Code::BadFingerprint)?;
        let signed = envelope::verify(key, &fingerprint_text(session, first), sig).is_ok();
        if signed && prints.all(|p| p == first) { Ok(()) } else { Err(Code::BadFingerprint.into()) }
    }
}
