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
    /// The SFU's number of it. `None`: not known yet.
    number: Option<u64>,
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
                        let kind = match role {
                            Role::Archivist => LegKind::Archivist,
                            Role::Technician => LegKind::Technician,
                            _ => LegKind::Person,
                        };
                        self.enter(session, who, &pusher);
                        let joined = self.sfu.join(session, who, kind, publish).await;
                        if let (Ok(number), Some(leg)) = (&joined, self.leg(session, who)) {
                            leg.number = Some(*number);
                        }
                        joined.map(drop)
                    }
                    MediaAsk::Answer(answer) => {
                        if let Some(leg) = self.leg(session, who)
                            && leg.offer.as_ref().is_some_and(|o| o.leg == answer.leg && o.rev <= answer.rev)
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
                room.legs.entry(*who).or_insert_with(|| Leg::of(None, guest()));
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
        let leg =
            Leg { number: None, pusher: Some(pusher.clone()), offer: None, watched: HashMap::new(), gateway: None };
        if let Some(old) = room.legs.insert(who, leg)
            && !old.pusher.as_ref().is_some_and(|p| p.same(pusher))
        {
            old.closed(session, "replaced");
        }
    }

    async fn on_come(&mut self, come: Come) {
        let Come { session, resource, gateway, answer } = come;
        let who = gateway.who;
        let present = |room: &Room| room.session.participants.get(&who).is_some_and(|p| p.present);
        let made = match self.rooms.get(&session) {
            None => Err(Code::SessionEnded.into()),
            // The end of its leg before was told while this one came: it has to come once more.
            Some(room) if !present(room) => Err(Code::Busy.into()),
            Some(_) => self.sfu.offer(session, gateway).await.map_err(gateways::refused),
        };
        let made = made.map(|(number, sdp)| {
            if let Some(room) = self.rooms.get_mut(&session) {
                room.legs.insert(who, Leg::of(Some(number), Guest { resource: Some(resource), gone: None }));
            }
            sdp
        });
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
            SfuEvent::Closed { room, who, leg: number, reason } => {
                // The late end of an older leg is no end of the one that stands.
                let of_another = |leg: &Leg| leg.number.is_some_and(|stands| stands != number);
                if let Some(leg) = self.leg(room, who).filter(|leg| !of_another(leg)) {
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
    fn of(number: Option<u64>, guest: Guest) -> Self {
        Self { number, pusher: None, offer: None, watched: HashMap::new(), gateway: Some(guest) }
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

#[cfg(test)]
mod tests {
    use lotse_protocol::{envelope::GatewayWay, session::Participant};
    use lotse_sfu::{SfuConfig, Way};

    use super::*;
    use crate::{
        config::Config,
        store::{Store, keys::ServerKeys, log::Log},
    };

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=fingerprint:sha-256 \
        00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
        a=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:x\r\n";

    /// The glue around a real SFU and a log that is not read, so that what it is told can be counted.
    async fn media(folder: &std::path::Path) -> (Media, Log) {
        lotse_trust::use_ring();
        let of = |name: &str| folder.join(name).display().to_string();
        let (data, keys) = (of("data"), of("keys"));
        let env = move |key: &str| match key {
            "LOTSE_DATA_DIR" => Some(data.clone()),
            "LOTSE_DATA_KEYS" => Some(keys.clone()),
            _ => None,
        };
        let config = Config::load(None, env).expect("settings");
        let store = Store::open(&config).await.expect("a store");
        let keys = ServerKeys::open(&config, &store.pool).await.expect("keys");
        let localhost = std::net::Ipv4Addr::LOCALHOST.into();
        let sfu = SfuConfig { bind: localhost, public: vec![localhost], tcp_port: None, udp_port: 0, workers: 1 };
        let (sfu, events) = lotse_sfu::start(sfu).expect("an SFU");
        let (log, handle) = Log::new(store, keys, mpsc::channel(1).0);
        let turn = Turn::open(&config).expect("no relay");
        (Media::new(sfu, turn, handle, events, mpsc::channel(1).1), log)
    }

    #[tokio::test]
    async fn the_late_end_of_an_older_leg_does_not_end_the_one_that_stands() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut media, _log) = media(folder.path()).await;
        let (case, room, who) = (CaseId(Uuid::new_v4()), SessionId(Uuid::new_v4()), Pseudonym(Uuid::new_v4()));
        let camera = Participant {
            role: Role::Gateway,
            present: true,
            answer: None,
            way: Some(GatewayWay::Publish),
            name: Some("Hall camera 3".into()),
            unaware: false,
        };
        let mut session = Session {
            id: room,
            caller: Pseudonym(Uuid::new_v4()),
            called_at_ms: 0,
            participants: [(who, camera)].into(),
            ended_at_ms: None,
        };
        media.on_session(case, session.clone()).await;
        let gateway = lotse_sfu::Gateway { who, way: Way::Publish, sdp: OFFER.into() };
        let come = async |media: &mut Media| {
            let (answer, answered) = oneshot::channel();
            let resource = Uuid::new_v4();
            media.on_come(Come { session: room, resource, gateway: gateway.clone(), answer }).await;
            answered.await.expect("an answer").map(|_| resource)
        };
        come(&mut media).await.expect("the first leg");
        let second = come(&mut media).await.expect("the second leg");
        let first_leg = loop {
            match media.events.recv().await.expect("the SFU runs") {
                SfuEvent::Closed { leg, reason: "replaced", .. } => break leg,
                other => media.on_event(other),
            }
        };
        // Said by the SFU just before the second came, read only now.
        media.on_event(SfuEvent::Closed { room, who, leg: first_leg, reason: "timeout" });
        assert_eq!(media.log.waiting(), 0, "nobody has left");
        let lives = async |media: &mut Media| {
            let (answer, answered) = oneshot::channel();
            media.on_go(Go { who, resource: second, end: false, answer });
            answered.await.expect("an answer")
        };
        assert!(lives(&mut media).await, "the second leg stands");
        // Its own end counts.
        let number = media.leg(room, who).and_then(|leg| leg.number).expect("known");
        media.on_event(SfuEvent::Closed { room, who, leg: number, reason: "timeout" });
        assert_eq!(media.log.waiting(), 1, "the log is told");
        assert!(!lives(&mut media).await);
        // And while the log has it gone, no leg comes that nobody would see.
        session.participants.get_mut(&who).expect("the camera").present = false;
        media.on_session(case, session).await;
        assert!(come(&mut media).await.is_err());
    }
}
