//! The glue between sessions and the SFU: whose leg is whose, and which gates are open.
//!
//! Owns: per session the participants' legs, the socket each leg is spoken to through, and an offer not yet answered.
//! Gates follow `Session::may_call` after every event of a session. Never: sees a packet (`lotse-sfu`).
//! A leg outlives its socket: a client that comes back within 20 s keeps its picture and gets the offer it missed.

use std::{collections::HashMap, time::Duration};

use lotse_protocol::{
    command::ServerMessage,
    id::{Pseudonym, SessionId, TrackId},
    policy::Role,
    session::Session,
    signal::Offer,
};
use lotse_sfu::{LegKind, Sfu, SfuError, SfuEvent};
use tokio::sync::mpsc;

use super::{hub::MediaAsk, push::Pusher};
use crate::{
    refusal::{Code, Language, Refusal},
    store::now_ms,
    turn::Turn,
};

/// Messages of the hub that may wait; the hub waits when it is full, because a gate must not be skipped.
pub const QUEUE: usize = 1024;
/// How often the quality of each leg is told.
const LEGS_EVERY: Duration = Duration::from_secs(1);

/// What the hub tells.
pub enum ToMedia {
    /// A session after its newest event.
    Session(Session),
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

struct Room {
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
}

pub struct Media {
    sfu: Sfu,
    turn: Turn,
    asks: mpsc::Receiver<ToMedia>,
    events: mpsc::Receiver<SfuEvent>,
    rooms: HashMap<SessionId, Room>,
}

impl Media {
    pub fn new(sfu: Sfu, turn: Turn, events: mpsc::Receiver<SfuEvent>, asks: mpsc::Receiver<ToMedia>) -> Self {
        Self { sfu, turn, asks, events, rooms: HashMap::new() }
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
                _ = legs.tick() => self.tell_legs().await,
            }
        }
    }

    async fn on_ask(&mut self, ask: ToMedia) {
        match ask {
            ToMedia::Session(session) => self.on_session(session).await,
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
    async fn on_session(&mut self, session: Session) {
        let id = session.id;
        if session.ended_at_ms.is_some() {
            if let Some(room) = self.rooms.remove(&id) {
                room.legs.into_values().for_each(|leg| leg.closed(id, "session_ended"));
                self.sfu.close_room(id).await;
            }
            return;
        }
        let room = self.rooms.entry(id).or_insert_with(|| Room {
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
        let leg = Leg { pusher: Some(pusher.clone()), offer: None, watched: HashMap::new() };
        if let Some(old) = room.legs.insert(who, leg)
            && !old.pusher.as_ref().is_some_and(|p| p.same(pusher))
        {
            old.closed(session, "replaced");
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
