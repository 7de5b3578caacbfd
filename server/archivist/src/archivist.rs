//! All cases at once: follows the server's queue, joins every open session, and writes into the logs what was recorded.
//!
//! Owns: the open cases, their legs and recordings. One task; nothing here waits for the disk or the network longer than
//! a queue takes. Never: touches a media byte. Elsewhere: what is due in a case (`due`), one case (`case`), the socket (`link`),
//! packets (`leg`).

mod due;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lotse_payload::recording::{RecordingStarted, RecordingStopped, StopWhy};
use lotse_protocol::{
    command::{Call, ClientMessage, ServerMessage},
    id::{CaseId, PublicKey, SessionId},
    kind,
    signal::Offer,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    case::{Case, Refused},
    error::Result,
    journal::{self, Recovered},
    keys::Keys,
    leg::{self, Leg},
    link::{Heard, ServerClock},
    metrics,
    recorder::Out,
    recording::{Recording, Told},
};

/// Between two attempts to connect media.
const REJOIN_EVERY: Duration = Duration::from_secs(2);
/// After the server could not take a commit.
const RESEND_AFTER: Duration = Duration::from_secs(2);

/// Shown by `/archive/healthz`: empty while all is well.
pub type Trouble = Arc<Mutex<String>>;
/// Shown by `/readyz`: is there a link to the server?
pub type Linked = Arc<AtomicBool>;
/// Shown by `/readyz`: by which way media came last, `UDP` or `TCP`.
pub type MediaWay = Arc<Mutex<Option<&'static str>>>;
/// Somebody wants a case whole, and is told when this archivist is in it.
pub type Wanted = (CaseId, oneshot::Sender<()>);

pub struct Archivist {
    pub keys: Arc<Keys>,
    pub name: String,
    pub data: PathBuf,
    pub server_key: PublicKey,
    pub clock: Arc<ServerClock>,
    pub trouble: Trouble,
    pub linked: Linked,
    pub media_way: MediaWay,
    /// For whoever makes bundles: a case to be joined.
    pub wants: mpsc::Sender<Wanted>,
    say: mpsc::Sender<ClientMessage>,
    cases: HashMap<CaseId, Live>,
    /// The sessions of the queue: what the server says is open.
    calls: HashMap<CaseId, SessionId>,
    legs_said: mpsc::Sender<(CaseId, u32, leg::Said)>,
    recordings_told: mpsc::Sender<(CaseId, Told)>,
    connected: bool,
    /// This program ends; recordings it leaves are found by the next start.
    ending: bool,
}

struct Live {
    case: Case,
    /// What a start found on disk, until it is told to the log.
    recovered: Option<Recovered>,
    active: Option<Active>,
    /// When to say again what the server could not take.
    again: Option<Instant>,
    /// Who waits for us to be in the case.
    wanted: Vec<oneshot::Sender<()>>,
    broken: bool,
}

struct Active {
    session: SessionId,
    recording: Recording,
    /// The server's name of the leg, and the way to it.
    leg: Option<(u32, mpsc::Sender<leg::Tell>)>,
    asked: Instant,
    closing: bool,
}

/// What comes back from legs and recordings.
pub struct Inbox {
    legs: mpsc::Receiver<(CaseId, u32, leg::Said)>,
    recordings: mpsc::Receiver<(CaseId, Told)>,
    wanted: mpsc::Receiver<Wanted>,
}

impl Archivist {
    pub fn new(
        keys: Arc<Keys>,
        name: String,
        data: PathBuf,
        server_key: PublicKey,
        clock: Arc<ServerClock>,
        say: mpsc::Sender<ClientMessage>,
    ) -> (Self, Inbox) {
        // Answers of legs and records of recordings: read at once, so these are bursts only.
        let (legs_said, legs) = mpsc::channel(256);
        let (recordings_told, recordings) = mpsc::channel(256);
        // Bundles are made two at a time.
        let (wants, wanted) = mpsc::channel(4);
        let archivist = Self {
            keys,
            name,
            data,
            server_key,
            clock,
            trouble: Trouble::default(),
            linked: Linked::default(),
            media_way: MediaWay::default(),
            wants,
            say,
            cases: HashMap::new(),
            calls: HashMap::new(),
            legs_said,
            recordings_told,
            connected: false,
            ending: false,
        };
        (archivist, Inbox { legs, recordings, wanted })
    }

    /// Runs until the link is gone or `stop` resolves; then finishes open fragments.
    pub async fn run(
        mut self,
        mut heard: mpsc::Receiver<Heard>,
        mut inbox: Inbox,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        for id in journal::cases(&self.data) {
            if journal::has_work(&self.data, id) {
                self.open(id);
            }
        }
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                h = heard.recv() => match h {
                    Some(h) => self.on_heard(h).await?,
                    None => break,
                },
                Some((case, leg, said)) = inbox.legs.recv() => self.on_leg(case, leg, said),
                Some((case, told)) = inbox.recordings.recv() => self.on_recording(case, told)?,
                Some((case, done)) = inbox.wanted.recv() => self.on_wanted(case, done)?,
                _ = tick.tick() => self.on_tick().await?,
                () = &mut stop => break,
            }
        }
        self.finish(&mut heard, &mut inbox).await
    }

    /// Ends recordings in order, and gives their last events a moment to reach the server.
    async fn finish(&mut self, heard: &mut mpsc::Receiver<Heard>, inbox: &mut Inbox) -> Result<()> {
        self.ending = true;
        for live in self.cases.values_mut() {
            if let Some(active) = &mut live.active {
                active.recording.allow(false, StopWhy::ArchivistRestarted);
                active.recording.close();
                active.closing = true;
                active.leg = None;
            }
        }
        let until = tokio::time::Instant::now() + Duration::from_secs(3);
        while self.cases.values().any(|l| l.active.is_some() || (self.connected && !l.case.is_settled())) {
            tokio::select! {
                Some(h) = heard.recv() => if let Heard::Message(m) = h { self.on_settling(*m) },
                Some((case, told)) = inbox.recordings.recv() => self.on_recording(case, told)?,
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
        Ok(())
    }

    fn on_settling(&mut self, message: ServerMessage) {
        if let ServerMessage::Committed { case, id, .. } = message
            && let Some(live) = self.cases.get_mut(&case)
        {
            live.case.on_committed(id);
        }
    }

    async fn on_heard(&mut self, heard: Heard) -> Result<()> {
        match heard {
            Heard::Connected => {
                tracing::info!("connected to the server");
                self.connected = true;
                self.linked.store(true, Ordering::Relaxed);
                for live in self.cases.values_mut() {
                    send(&self.say, live.case.open_message());
                }
            }
            Heard::Disconnected => {
                self.connected = false;
                self.linked.store(false, Ordering::Relaxed);
                for live in self.cases.values_mut() {
                    live.case.caught_up = false;
                }
            }
            Heard::Message(message) => self.on_message(*message).await?,
        }
        Ok(())
    }

    async fn on_message(&mut self, message: ServerMessage) -> Result<()> {
        match message {
            ServerMessage::Queue { calls } => self.on_queue(&calls),
            ServerMessage::CaseOpened { case, me, .. } => {
                if let Some(live) = self.cases.get_mut(&case) {
                    live.case.on_opened(me);
                    for message in live.case.resend() {
                        send(&self.say, message);
                    }
                }
            }
            ServerMessage::Event { case, event } => self.on_event(case, &event)?,
            ServerMessage::CaughtUp { case, head } => {
                if let Some(live) = self.cases.get_mut(&case) {
                    live.case.on_caught_up(head);
                    self.evaluate(case)?;
                }
            }
            ServerMessage::Committed { case, id, .. } => {
                if let Some(live) = self.cases.get_mut(&case)
                    && let Some(media) = live.case.on_committed(id)
                    && let Some(active) = &live.active
                {
                    active.recording.committed(media);
                }
            }
            ServerMessage::Refused { id, case, session, last_device_seq, error } => {
                tracing::warn!(?case, ?session, code = error.code, "refused: {}", error.message);
                if let Some((case, id)) = case.zip(id)
                    && let Some(live) = self.cases.get_mut(&case)
                {
                    match live.case.on_refused(id, last_device_seq, &error.code) {
                        Refused::SignedAgain => live.case.resend().for_each(|m| send(&self.say, m)),
                        Refused::Waits => live.again = Some(Instant::now() + RESEND_AFTER),
                        Refused::Dropped => {}
                    }
                }
            }
            ServerMessage::RtcOffer { session, offer } => self.on_offer(session, offer).await,
            ServerMessage::RtcClosed { session, reason } => {
                if let Some(active) = self.active_mut(session) {
                    tracing::info!(%session, reason, "the media leg was closed by the server");
                    active.leg = None;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn on_queue(&mut self, calls: &[Call]) {
        self.calls = calls.iter().map(|c| (c.summary.case, c.session)).collect();
        for call in calls {
            self.open(call.summary.case);
        }
    }

    fn on_wanted(&mut self, id: CaseId, done: oneshot::Sender<()>) -> Result<()> {
        self.open(id);
        if let Some(live) = self.cases.get_mut(&id) {
            live.wanted.push(done);
        }
        self.evaluate(id)
    }

    fn open(&mut self, id: CaseId) {
        if self.cases.contains_key(&id) {
            return;
        }
        let mut case = Case::new(id, &self.keys);
        if self.connected {
            send(&self.say, case.open_message());
        }
        let live = Live { case, recovered: None, active: None, again: None, wanted: Vec::new(), broken: false };
        self.cases.insert(id, live);
    }

    fn on_event(&mut self, id: CaseId, event: &lotse_protocol::command::SentEvent) -> Result<()> {
        let Some(live) = self.cases.get_mut(&id) else { return Ok(()) };
        if live.broken {
            return Ok(());
        }
        if let Err(e) = live.case.on_event(event) {
            tracing::error!(case = %id, "the log of this case does not check: {e}. Nothing of it is recorded; keep the server's data and this archive for an inquiry.");
            live.broken = true;
            if let Some(active) = &live.active {
                active.recording.allow(false, StopWhy::NotAllowed);
            }
            return Ok(());
        }
        if live.case.server_key().is_some_and(|k| k != self.server_key) {
            tracing::error!(case = %id, "this case names another server key than the one learnt at pairing: not recorded");
            live.broken = true;
            return Ok(());
        }
        // A withdrawal counts at once, also while catching up.
        if let Some(active) = &live.active
            && !live.case.sessions.get(active.session).is_some_and(|s| s.may_record())
        {
            active.recording.allow(false, live.case.why_not(active.session));
        }
        if live.case.caught_up {
            self.evaluate(id)?;
        }
        Ok(())
    }

    async fn on_offer(&mut self, session: SessionId, offer: Offer) {
        let (key, said) = (self.keys.device_key(), self.legs_said.clone());
        let Some((id, active)) = self
            .cases
            .iter_mut()
            .find_map(|(id, l)| l.active.as_mut().filter(|a| a.session == session && !a.closing).map(|a| (*id, a)))
        else {
            return;
        };
        // Another name belongs to a new connection.
        let number = offer.leg;
        if let Some((_, tell)) = active.leg.as_ref().filter(|(standing, _)| *standing == number) {
            if tell.try_send(leg::Tell::Offer(Box::new(offer))).is_err() {
                active.leg = None;
            }
            return;
        }
        let (feed, clock) = (active.recording.feed.clone(), active.recording.clock.clone());
        let tell = move |s: leg::Said| {
            // Read at once by this archivist's loop; if that is stuck, the leg is of no use either.
            let _ = said.try_send((id, number, s));
        };
        match Leg::start(session, key, clock, feed, offer, tell).await {
            Ok(leg) => active.leg = Some((number, leg)),
            Err(e) => {
                tracing::warn!(%session, "{e}");
                active.leg = None;
            }
        }
    }

    fn on_leg(&mut self, case: CaseId, number: u32, said: leg::Said) {
        let Some(active) = self.cases.get_mut(&case).and_then(|l| l.active.as_mut()) else { return };
        let session = active.session;
        match said {
            leg::Said::Answer(answer) => send(&self.say, ClientMessage::RtcAnswer { session, answer }),
            leg::Said::Connected(way) => {
                tracing::info!(%case, way, "media connected");
                *self.media_way.lock().unwrap_or_else(PoisonError::into_inner) = Some(way);
            }
            leg::Said::Lost(why) => {
                tracing::warn!(%case, "the media leg is lost: {why}");
                active.leg.take_if(|(n, _)| *n == number);
            }
        }
    }

    fn on_recording(&mut self, id: CaseId, told: Told) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let Some(live) = self.cases.get_mut(&id) else { return Ok(()) };
        let Some(active) = &mut live.active else { return Ok(()) };
        let session = Some(active.session);
        let message = match told {
            // The next start declares both, as after a crash: only it knows when recording went on.
            Told::Out(Out::Stopped { .. } | Out::Gap(_)) if self.ending => None,
            Told::Out(Out::Started { at_us }) => {
                let started = RecordingStarted { at_ms: at_us / 1000, consented: live.case.consented(active.session) };
                live.case.commit(kind::RECORDING_STARTED, session, Some(&started), &[], None, now_ms)?
            }
            Told::Out(Out::Stopped { at_us, why }) => {
                let stopped = RecordingStopped { at_ms: at_us / 1000, why };
                live.case.commit(kind::RECORDING_STOPPED, session, Some(&stopped), &[], None, now_ms)?
            }
            Told::Out(Out::Segment(finished)) => {
                metrics::segment(&finished.payload, self.clock.now_us());
                live.case.segment(&finished, now_ms)?
            }
            Told::Out(Out::Gap(gap)) => {
                metrics::gap(&gap);
                live.case.commit(kind::GAP, session, Some(&gap), &[], None, now_ms)?
            }
            Told::Out(Out::KeyFrame(track)) => {
                if let Some((_, leg)) = &active.leg {
                    // A full queue means the leg is busy with others; the recorder asks again.
                    let _ = leg.try_send(leg::Tell::KeyFrame(track));
                }
                None
            }
            Told::Out(Out::Trouble(why)) => {
                self.set_trouble(&why);
                None
            }
            Told::Closed => {
                live.active = None;
                if live.case.caught_up && !self.ending {
                    self.evaluate(id)?;
                }
                None
            }
        };
        message.into_iter().for_each(|m| send(&self.say, m));
        Ok(())
    }

    async fn on_tick(&mut self) -> Result<()> {
        let cases = || self.cases.values();
        metrics::state(
            self.connected,
            cases().filter(|l| l.active.is_some()).count(),
            cases().map(|l| l.case.waiting()).sum(),
        );
        let ids: Vec<CaseId> = self.cases.keys().copied().collect();
        for id in ids {
            self.evaluate(id)?;
            if let Some(live) = self.cases.get_mut(&id)
                && live.case.caught_up
                && live.again.take_if(|at| *at <= Instant::now()).is_some()
            {
                live.case.resend().for_each(|m| send(&self.say, m));
            }
            if let Some(live) = self.cases.get_mut(&id)
                && let Some(active) = &mut live.active
                && self.connected
                && live.case.caught_up
                && !active.closing
                && active.leg.is_none()
                && active.asked.elapsed() > REJOIN_EVERY
            {
                active.asked = Instant::now();
                let session = active.session;
                send(&self.say, ClientMessage::RtcJoin { case: id, session, publish: Vec::new() });
            }
        }
        Ok(())
    }

    /// Empty: all is well again.
    fn set_trouble(&self, why: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble != why {
            match why {
                "" => tracing::info!("recording works again"),
                why => tracing::error!("nothing can be recorded: {why}"),
            }
            why.clone_into(&mut trouble);
        }
    }

    fn active_mut(&mut self, session: SessionId) -> Option<&mut Active> {
        self.cases.values_mut().filter_map(|l| l.active.as_mut()).find(|a| a.session == session)
    }
}

/// Commits that do not fit are sent again after the next connect; the rest is asked again by `on_tick`.
fn send(say: &mpsc::Sender<ClientMessage>, message: ClientMessage) {
    if say.try_send(message).is_err() {
        tracing::warn!("the queue to the server is full");
    }
}
