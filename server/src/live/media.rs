//! The glue between sessions and the SFU: whose leg is whose, and which gates are open.
//!
//! Owns: per session the participants' legs, the socket each leg is spoken to through, and an offer not yet answered.
//! Gates follow `Session::may_call` after every event of a session. Never: sees a packet (`lotse-sfu`).
//! A leg outlives its socket: a client that comes back within 20 s keeps its picture and gets the offer it missed.
//! A gateway's presence is its leg: when that is gone, the log is told.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lotse_protocol::{
    command::ServerMessage,
    envelope::LeftWhy,
    id::{CaseId, Pseudonym, SessionId, TrackId},
    policy::Role,
    session::Session,
    signal::{IceServer, Offer},
};
use lotse_sfu::{LegKind, Sfu, SfuError, SfuEvent};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    hub::{LOST_AFTER, MediaAsk},
    push::Pusher,
};
use crate::{
    error::Error,
    http::gateways,
    refusal::{Code, Language, Refusal},
    store::{log::LogHandle, now_ms},
    turn::Turn,
};

/// Messages of the hub that may wait; the hub waits when it is full, because a gate must not be skipped.
pub const QUEUE: usize = 1024;
/// How often the quality of each leg is told.
const LEGS_EVERY: Duration = Duration::from_secs(1);

/// What the hub tells.
pub enum ToMedia {
    /// A session after its newest event.
    Session {
        case: CaseId,
        session: Session,
    },
    Gateway(GatewayAsk),
    Ask {
        session: SessionId,
        who: Pseudonym,
        role: Role,
        language: Language,
        pusher: Pusher,
        ask: MediaAsk,
    },
    SocketGone {
        pusher: Pusher,
    },
    SocketBack {
        session: SessionId,
        who: Pseudonym,
        pusher: Pusher,
    },
}

/// What a foreign client asks of media.
pub enum GatewayAsk {
    Come(Come),
    Go(Go),
}

/// It comes with an offer, after the log has it present. The answer: SDP, and the relays it may use.
pub struct Come {
    pub session: SessionId,
    /// Names this leg from now on.
    pub resource: Uuid,
    pub gateway: lotse_sfu::Gateway,
    pub answer: oneshot::Sender<Result<(String, Vec<IceServer>), Error>>,
}

/// Does its leg live? And shall it end?
pub struct Go {
    pub who: Pseudonym,
    pub resource: Uuid,
    pub end: bool,
    pub answer: oneshot::Sender<bool>,
}

struct Room {
    case: CaseId,
    session: Session,
    open: HashMap<Pseudonym, bool>,
    legs: HashMap<Pseudonym, Leg>,
}

struct Leg {
    /// `None`: its socket is away.
    pusher: Option<Pusher>,
    /// Sent or to be sent, not yet answered.
    offer: Option<Offer>,
    /// Which of its own tracks somebody watches, as last said.
    watched: HashMap<TrackId, bool>,
    gateway: Option<Guest>,
}

/// What a gateway's leg has besides.
struct Guest {
    resource: Option<Uuid>,
    /// From when on the log is told that it is gone, and why.
    gone: Option<(Instant, LeftWhy)>,
}

pub struct Media {
    sfu: Sfu,
    turn: Turn,
    log: LogHandle,
    asks: mpsc::Receiver<ToMedia>,
    events: mpsc::Receiver<SfuEvent>,
    rooms: HashMap<SessionId, Room>,
}

impl Media {
    pub fn new(
        sfu: Sfu,
        turn: Turn,
        log: LogHandle,
        events: mpsc::Receiver<SfuEvent>,
        asks: mpsc::Receiver<ToMedia>,
    ) -> Self {
        Self { sfu, turn, log, asks, events, rooms: HashMap::new() }
    }

    pub async fn run(mut self) {
        let mut legs = tokio::time::interval(LEGS_EVERY);
        legs.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.on_ask(ask).await,
                    None => return,
                },
                Some(event) = self.events.recv() => self.on_event(event),
                _ = legs.tick() => {
                    self.tell_gone(Instant::now());
                    self.tell_legs().await;
                }
            }
        }
    }

    async fn on_ask(&mut self, ask: ToMedia) {
        match ask {
            ToMedia::Session { case, session } => self.on_session(case, session).await,
            ToMedia::Gateway(GatewayAsk::Come(come)) => self.on_come(come).await,
            ToMedia::Gateway(GatewayAsk::Go(go)) => self.on_go(go),
            ToMedia::Ask { session, who, role, language, pusher, ask } => {
                let done = match ask {
                    MediaAsk::Join(publish) => {
                        let kind = if role == Role::Archivist { LegKind::Archivist } else { LegKind::Person };
                        self.enter(session, who, &pusher);
                        self.sfu.join(session, who, kind, publish).await
                    }
                    MediaAsk::Answer(answer) => {
                        if let Some(leg) = self.leg(session, who)
                            && leg.offer.as_ref().is_some_and(|o| o.rev <= answer.rev)
                        {
                            leg.offer = None;
                        }
                        self.sfu.answer(session, who, answer).await
                    }
                    MediaAsk::Watch { track, on } => self.sfu.watch(session, who, track, on).await,
                };
                if let Err(e) = done {
                    refuse(&pusher, session, language, &e);
                }
            }
            ToMedia::SocketGone { pusher } => {
                for leg in self.rooms.values_mut().flat_map(|r| r.legs.values_mut()) {
                    leg.pusher.take_if(|p| p.same(&pusher));
                }
            }
            ToMedia::SocketBack { session, who, pusher } => {
                if let Some(leg) = self.leg(session, who).filter(|l| l.pusher.is_none()) {
                    if let Some(offer) = leg.offer.clone() {
                        pusher.say(ServerMessage::RtcOffer { session, offer });
                    }
                    for (track, on) in &leg.watched {
                        pusher.say(ServerMessage::RtcWatched { session, track: *track, on: *on });
                    }
                    leg.pusher = Some(pusher);
                }
            }
        }
    }

    /// Opens and closes gates, and ends the legs of who is gone.
    async fn on_session(&mut self, case: CaseId, session: Session) {
        let id = session.id;
        if session.ended_at_ms.is_some() {
            if let Some(room) = self.rooms.remove(&id) {
                room.legs.into_values().for_each(|leg| leg.closed(id, "session_ended"));
                self.sfu.close_room(id).await;
            }
            return;
        }
        let room = self.rooms.entry(id).or_insert_with(|| Room {
            case,
            session: session.clone(),
            open: HashMap::new(),
            legs: HashMap::new(),
        });
        room.session = session;
        for (who, participant) in &room.session.participants {
            let may = room.session.may_call(*who);
            // A newcomer's gate is closed by itself.
            if room.open.insert(*who, may).unwrap_or(false) != may {
                self.sfu.gate(id, *who, may).await;
            }
            if participant.present && participant.role == Role::Gateway {
                // Its leg follows at once; after a restart of ours it has to come again.
                let guest = || Guest { resource: None, gone: Some((Instant::now() + LOST_AFTER, LeftWhy::Lost)) };
                room.legs.entry(*who).or_insert_with(|| Leg::of(guest()));
            }
            if !participant.present
                && let Some(leg) = room.legs.remove(who)
            {
                room.open.insert(*who, false);
                self.sfu.leave(id, *who).await;
                leg.closed(id, "left");
            }
        }
    }

    /// Notes whose leg comes. Another window that had it is told.
    fn enter(&mut self, session: SessionId, who: Pseudonym, pusher: &Pusher) {
        let Some(room) = self.rooms.get_mut(&session) else { return };
        let leg = Leg { pusher: Some(pusher.clone()), offer: None, watched: HashMap::new(), gateway: None };
        if let Some(old) = room.legs.insert(who, leg)
            && !old.pusher.as_ref().is_some_and(|p| p.same(pusher))
        {
            old.closed(session, "replaced");
        }
    }

    async fn on_come(&mut self, come: Come) {
        let Come { session, resource, gateway, answer } = come;
        let who = gateway.who;
        let made = match self.rooms.get_mut(&session) {
            None => Err(Code::SessionEnded.into()),
            Some(_) => self.sfu.offer(session, gateway).await.map_err(gateways::refused),
        };
        if let (Ok(_), Some(room)) = (&made, self.rooms.get_mut(&session)) {
            room.legs.insert(who, Leg::of(Guest { resource: Some(resource), gone: None }));
        }
        let relays = self.turn.servers(&who.to_string(), now_ms());
        // Whoever has gone meanwhile is noticed by the silence of its leg.
        let _ = answer.send(made.map(|sdp| (sdp, relays)));
    }

    fn on_go(&mut self, go: Go) {
        let mut guests = self
            .rooms
            .values_mut()
            .filter_map(|room| room.legs.get_mut(&go.who))
            .filter_map(|leg| leg.gateway.as_mut());
        let guest = guests.find(|guest| guest.resource == Some(go.resource) && guest.gone.is_none());
        let lives = guest.is_some();
        if let Some(guest) = guest.filter(|_| go.end) {
            guest.gone = Some((Instant::now(), LeftWhy::Left));
        }
        let _ = go.answer.send(lives);
        self.tell_gone(Instant::now());
    }

    /// Tells the log of gateways that are gone, until it has them gone.
    fn tell_gone(&self, now: Instant) {
        for (session, room) in &self.rooms {
            for (who, leg) in &room.legs {
                let gone = leg.gateway.as_ref().and_then(|guest| guest.gone).filter(|(due, _)| *due <= now);
                if let Some((_, why)) = gone {
                    // A full queue is asked again with the next tick.
                    self.log.left(room.case, *session, *who, why);
                }
            }
        }
    }

    fn on_event(&mut self, event: SfuEvent) {
        match event {
            SfuEvent::Offer { room, who, mut offer } => {
                offer.ice_servers = self.turn.servers(&who.to_string(), now_ms());
                if let Some(leg) = self.leg(room, who) {
                    leg.offer = Some(offer.clone());
                    leg.say(ServerMessage::RtcOffer { session: room, offer });
                }
            }
            SfuEvent::KeyFrame { room, who, track } => {
                self.say(room, who, ServerMessage::RtcKeyFrame { session: room, track });
            }
            SfuEvent::Watched { room, who, track, on } => {
                if let Some(leg) = self.leg(room, who) {
                    leg.watched.insert(track, on);
                    leg.say(ServerMessage::RtcWatched { session: room, track, on });
                }
            }
            SfuEvent::Connected { room, who } => tracing::debug!(%room, %who, "media connected"),
            // The one that replaced it is already noted.
            SfuEvent::Closed { reason: "replaced", .. } => {}
            // Its place is kept: should the client have joined again meanwhile, that leg's offer still finds its socket.
            SfuEvent::Closed { room, who, reason } => {
                if let Some(leg) = self.leg(room, who) {
                    leg.offer = None;
                    leg.closed(room, reason);
                    if let Some(guest) = leg.gateway.as_mut().filter(|guest| guest.gone.is_none()) {
                        let why = if reason == "bye" { LeftWhy::Left } else { LeftWhy::Lost };
                        guest.gone = Some((Instant::now(), why));
                        self.tell_gone(Instant::now());
                    }
                }
            }
        }
    }

    async fn tell_legs(&mut self) {
        for (session, room) in self.rooms.iter().filter(|(_, r)| !r.legs.is_empty()) {
            let legs = self.sfu.legs(*session).await;
            // The archivist shows nobody a poor line; recording must not cost more because more people watch.
            let people = |who| room.session.participants.get(who).is_none_or(|p| p.role != Role::Archivist);
            for (_, leg) in room.legs.iter().filter(|(who, _)| people(*who)) {
                leg.say(ServerMessage::RtcLegs { session: *session, legs: legs.clone() });
            }
        }
    }

    fn leg(&mut self, session: SessionId, who: Pseudonym) -> Option<&mut Leg> {
        self.rooms.get_mut(&session)?.legs.get_mut(&who)
    }

    fn say(&mut self, session: SessionId, who: Pseudonym, message: ServerMessage) {
        if let Some(leg) = self.leg(session, who) {
            leg.say(message);
        }
    }
}

impl Leg {
    /// A gateway's: it is spoken to by nobody.
    fn of(guest: Guest) -> Self {
        Self { pusher: None, offer: None, watched: HashMap::new(), gateway: Some(guest) }
    }

    fn say(&self, message: ServerMessage) {
        if let Some(pusher) = &self.pusher {
            pusher.say(message);
        }
    }

    fn closed(&self, session: SessionId, reason: &str) {
        self.say(ServerMessage::RtcClosed { session, reason: reason.into() });
    }
}

fn refuse(pusher: &Pusher, session: SessionId, language: Language, e: &SfuError) {
    let error = Refusal::with(Code::MediaRefused, e).api_error(language);
    pusher.say(ServerMessage::Refused { id: None, case: None, session: Some(session), last_device_seq: None, error });
}
