//! The program: ties core, link, feed, display and inputs together, one message at a time.
//!
//! Owns: the loop and the order in which actions are carried out. Never: decides (that is `core`) or blocks (slow work is
//! a task or a thread that answers with a message).

mod carry;
mod log;
mod pictures;
pub mod report;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lotse_payload::CaseCard;
use lotse_protocol::{
    chain::Chain,
    command::{ClientMessage, ItemRef, ServerMessage},
    id::{CaseId, EventId, Pseudonym},
};
use tokio::sync::{mpsc, watch};

use crate::{
    capture::{Trouble, yuv::Rgba},
    clock::Clock,
    config::Config,
    core::{Core, Device, Event, Settings},
    error::GlassError,
    feed::Feed,
    hud::{
        Drawn, HEIGHT, INSET_HEIGHT, INSET_WIDTH, Marked, Scene, WIDTH,
        display::{self, Display, Hud, PngFolder, Presented},
        panel::{self, PanelDisplay, Troubles},
    },
    input::{self, Ask, Words, socket},
    link::{
        author::Author,
        http::Api,
        identity::{Identity, InHand},
        ladder::Ladder,
        live::{Down, Live},
        media::{Media, MediaEvent, VoiceSink},
        patience::Patience,
        policy::Retry,
    },
    overlay::prepare::{Made, Preparer},
    profile::Profile,
    voice::{SinkState, Speaker, SpeakerConfig, VoicePacket},
    wear::Wear,
};

/// Messages of our own threads and tasks.
const OWN: usize = 256;
/// Media events: pointers come up to 60 a second.
const MEDIA: usize = 256;
/// Between two camera pictures on the wear page.
const CAMERA_PAGE: Duration = Duration::from_millis(150);
/// The core looks at the time this often.
const TICK: Duration = Duration::from_millis(200);
/// The picture follows the link this often: a queue of 0.3 s is made in 0.1.
const FOLLOW: Duration = Duration::from_millis(50);
/// Between two attempts at an event that the server cannot take now.
const COMMIT_PAUSE: Duration = Duration::from_secs(2);

/// What threads and tasks of the program tell its loop.
enum Own {
    Made(Made),
    Presented(Presented),
    Trouble(Trouble),
    /// The main track has another codec and therefore another id.
    Announce,
    /// The expert's picture of an instruction was fetched, or could not be.
    Snapshot(EventId, Option<Vec<u8>>),
    /// Look again for a relayed picture.
    Late(EventId),
    CaseMade(Result<(CaseId, CaseCard), GlassError>),
    /// The pause after a failed media connection is over.
    MediaAgain(u64),
    /// The pause after the server could not take an event is over.
    CommitAgain,
}

/// The running program.
pub struct App {
    config: Config,
    clock: Clock,
    identity: Arc<Identity>,
    api: Api,
    core: Core,
    up: mpsc::Sender<ClientMessage>,
    own: mpsc::Sender<Own>,
    author: Option<Author>,
    chain: Option<Chain>,
    /// The case to open on every socket, and whether this start made it.
    case: Option<(CaseId, bool)>,
    me: Option<Pseudonym>,
    resent: bool,
    /// A pause before sending again is running.
    pausing: bool,
    /// The case in hand, which the disk has not taken yet; tried again with every tick.
    unremembered: Option<Option<InHand>>,
    feed: Arc<Mutex<Feed>>,
    speaker: Speaker,
    media: Option<Media>,
    media_generation: u64,
    media_retry: Retry,
    ladder: Ladder,
    patience: Patience,
    media_events: mpsc::Sender<(u64, MediaEvent)>,
    voices: VoiceSink,
    preparer: Preparer,
    marked: HashMap<EventId, Marked>,
    snapshots: HashMap<EventId, ItemRef>,
    relayed: HashMap<EventId, Vec<u8>>,
    hud: Hud,
    troubles: Troubles,
    wear: Vec<Wear>,
    timing: report::Timing,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(config: Config) -> Result<(), GlassError> {
    let profile = Profile::load(&config.device.profile)?;
    let clock = Clock::start();
    let identity = Arc::new(Identity::open(&config.data.dir)?);
    let api = Api::new(&config, identity.clone())?;
    let (own, mut inbox) = mpsc::channel(OWN);
    let (media_events, mut media_inbox) = mpsc::channel(MEDIA);
    let (words, mut asked) = mpsc::channel::<Ask>(input::QUEUE);
    let words = Words::new(words, config.hud.language);

    let speaker = Speaker::start(SpeakerConfig::parse(&config.sound.speaker)?);
    let tell = own.clone();
    let trouble = move |t| {
        // A full queue means that the loop is stuck; it has worse to tell then.
        let _ = tell.try_send(Own::Trouble(t));
    };
    let tell = own.clone();
    let announce = move || {
        // The loop has ended: nobody is left to announce to.
        let _ = tell.blocking_send(Own::Announce);
    };
    let feed = Feed::start(&config, &profile, clock.clone(), trouble, announce)?;
    let feed = Arc::new(Mutex::new(feed));
    let tell = own.clone();
    let preparer = Preparer::start(move |made| {
        let _ = tell.blocking_send(Own::Made(made));
    });

    let mut displays: Vec<Box<dyn Display>> = Vec::new();
    let mut wear = Vec::new();
    let troubles = Troubles::default();
    for name in &config.hud.displays {
        if let Some(dir) = name.strip_prefix("png:") {
            displays.push(Box::new(PngFolder::open(Path::new(dir), clock.clone())?));
        } else if let Some(address) = name.strip_prefix("web:") {
            let page = Wear::start(address, words.clone(), &config.server.simulated_link)?;
            tokio::spawn(camera_page(page.clone(), feed.clone()));
            displays.push(Box::new(WearDisplay::start(page.clone())));
            wear.push(page);
        } else if panel::is_panel(name) {
            displays.push(Box::new(PanelDisplay::start(name, troubles.clone())?));
        }
    }
    for name in &config.input.sources {
        if let Some(path) = name.strip_prefix("socket:") {
            socket::listen(Path::new(path), words.clone())?;
        }
    }
    let tell = own.clone();
    let hud = Hud::start(displays, move |p| {
        let _ = tell.blocking_send(Own::Presented(p));
    });
    let mut live = Live::start(api.clone(), clock.clone(), config.hud.language.code());
    ready(&config, wear.first());

    let case = identity.in_hand().map(|h| (h.case, false));
    let settings = Settings {
        language: config.hud.language,
        on_start: config.call.on_start,
        remembers: case.is_some(),
        // Known with names once the case is opened.
        card: CaseCard {
            title: config.call.title.clone(),
            asset: String::new(),
            customer: String::new(),
            site: String::new(),
        },
    };
    let voices = voice_sink(speaker.clone());
    let mut app = App {
        config,
        clock,
        identity,
        api,
        core: Core::new(settings),
        up: live.up.clone(),
        own,
        author: None,
        chain: None,
        case,
        me: None,
        resent: false,
        feed,
        speaker,
        media: None,
        media_generation: 0,
        pausing: false,
        unremembered: None,
        media_retry: Retry::default(),
        ladder: Ladder::default(),
        patience: Patience::default(),
        media_events,
        voices,
        preparer,
        marked: HashMap::new(),
        snapshots: HashMap::new(),
        relayed: HashMap::new(),
        hud,
        troubles,
        wear,
        timing: report::Timing::default(),
    };
    app.show();
    let mut tick = tokio::time::interval(TICK);
    let mut follow = tokio::time::interval(FOLLOW);
    follow.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(down) = live.down.recv() => app.on_down(down).await,
            Some((generation, event)) = media_inbox.recv() => app.on_media(generation, event).await,
            Some(own) = inbox.recv() => app.on_own(own).await,
            Some((word, reply)) = asked.recv() => {
                let result = app.core.word(app.clock.aligned_ms(), word);
                tracing::info!("word {}: {}", word.text(), result.as_ref().err().unwrap_or(&"ok"));
                // Whoever asked may be gone by now.
                let _ = reply.send(result.as_ref().map(|_| ()).map_err(|why| (*why).to_owned()));
                if let Ok(actions) = result {
                    app.carry_out(actions).await;
                }
            }
            _ = follow.tick() => {
                app.follow_link();
                continue;
            }
            _ = tick.tick() => {
                app.identity.save();
                app.remember();
                app.look_at_link().await;
                app.watch_speaker().await;
                app.event(Event::Tick).await;
            }
        }
        app.show();
    }
    if let Some(media) = app.media.take() {
        media.close().await;
    }
    Ok(())
}

impl App {
    /// Gives the core an event and carries out what follows.
    async fn event(&mut self, event: Event) {
        let actions = self.core.event(self.clock.aligned_ms(), event);
        self.carry_out(actions).await;
    }

    /// The newest view onto the display and the wear page.
    fn show(&mut self) {
        let now_ms = self.clock.aligned_ms();
        let view = self.core.view(now_ms);
        let marked = match &view.screen {
            crate::core::view::Screen::Instruction(s) => self.marked.get(&s.id).cloned(),
            _ => None,
        };
        let camera = match &view.screen {
            crate::core::view::Screen::Pointing { .. } => {
                let feed = self.feed.try_lock().ok();
                feed.and_then(|f| f.picture(INSET_WIDTH as usize, INSET_HEIGHT as usize)).map(Arc::new)
            }
            _ => None,
        };
        let scene = Scene { view, now_ms, marked, camera };
        let report = report::Report::of(&scene, self);
        self.wear.iter().for_each(|w| w.set_state(&report));
        self.hud.show(scene);
    }

    async fn on_down(&mut self, down: Down) {
        match down {
            Down::Connected => {
                self.resent = false;
                if let Some((case, _)) = self.case {
                    self.open(case);
                }
                self.event(Event::Connected).await;
            }
            Down::Disconnected => self.event(Event::Disconnected).await,
            Down::NotPaired(why) => self.event(Event::NotPaired(why)).await,
            Down::Message(message) => self.on_message(*message).await,
        }
    }

    async fn on_message(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::CaseOpened { case, me, .. } if self.case.is_some_and(|c| c.0 == case) => {
                self.me = Some(me);
                if self.author.as_ref().is_none_or(|a| a.case() != case) {
                    self.author = Some(Author::new(case, me));
                }
                let fresh = self.case.is_some_and(|c| c.1);
                self.event(Event::CaseOpened { case, me, fresh }).await;
            }
            ServerMessage::Event { case, event } => self.on_log_event(case, event).await,
            ServerMessage::CaughtUp { .. } => {
                // Once a socket: what was not committed before goes first, in its old order.
                if !std::mem::replace(&mut self.resent, true) {
                    let again = self.author.as_ref().map(Author::again).unwrap_or_default();
                    again.into_iter().for_each(|m| self.send(m));
                }
                self.event(Event::CaughtUp).await;
            }
            ServerMessage::Committed { id, .. } => {
                if let Some(author) = &mut self.author {
                    author.settled(id);
                }
            }
            ServerMessage::Refused { id, case, last_device_seq, error, .. } => {
                self.on_refused(id, case, last_device_seq, error.code, error.message).await;
            }
            ServerMessage::Relayed { item, .. } => self.on_relayed(item).await,
            ServerMessage::RtcOffer { session, offer } => self.on_offer(session, offer).await,
            ServerMessage::RtcLegs { legs, .. } => {
                let patient = self.patience.step(Instant::now(), &legs, self.me);
                if let Ok(feed) = self.feed.lock()
                    && let Some(publisher) = feed.publisher()
                {
                    publisher.set_patient(patient);
                }
                self.event(Event::Legs(legs)).await;
            }
            ServerMessage::RtcWatched { track, on, .. } => {
                let feed = self.feed.clone();
                if let Ok(feed) = feed.lock()
                    && feed.publisher().and_then(|p| p.source_of(track))
                        == Some(lotse_protocol::signal::TrackSource::Preview)
                {
                    feed.watch_preview(on);
                }
            }
            ServerMessage::RtcKeyFrame { track, .. } => {
                if let Ok(feed) = self.feed.lock()
                    && let Some(source) = feed.publisher().and_then(|p| p.source_of(track))
                {
                    feed.key_frame(source);
                }
            }
            ServerMessage::RtcClosed { reason, .. } => {
                tracing::warn!("the server closed the media connection: {reason}");
                self.media_failed().await;
            }
            ServerMessage::Archivist { present } => self.event(Event::Archivist(present)).await,
            ServerMessage::CaseOpened { .. }
            | ServerMessage::SessionNow { .. }
            | ServerMessage::Pong { .. }
            | ServerMessage::Queue { .. }
            | ServerMessage::CaseChanged { .. } => {}
        }
    }

    async fn on_own(&mut self, own: Own) {
        match own {
            Own::Made(made) => self.on_made(made).await,
            Own::Presented(p) => {
                self.timing.presented(&p);
                self.event(Event::Presented { instruction: p.instruction }).await;
            }
            Own::Trouble(Trouble::Camera(why)) => {
                tracing::warn!("{why}");
                self.event(Event::Trouble(Device::Camera, Some(why))).await;
            }
            Own::Trouble(Trouble::Microphone(why)) => {
                tracing::warn!("{why}");
                self.event(Event::Trouble(Device::Microphone, Some(why))).await;
            }
            // A connection that is being made anew announces it by itself.
            Own::Announce if self.media.is_some() => {
                tracing::info!("the picture has another codec: joining media anew");
                self.leave_media().await;
                self.event(Event::Media(false)).await;
            }
            Own::Announce => {}
            Own::Snapshot(id, bytes) => self.on_snapshot(id, bytes),
            Own::Late(id) => self.on_late(id),
            Own::CaseMade(Ok((case, card))) => {
                self.core.set_card(card);
                self.case = Some((case, true));
                self.open(case);
            }
            Own::CaseMade(Err(e)) => {
                tracing::warn!("{e}");
                let (code, message) = match e {
                    GlassError::Refused { code, message, .. } => (code, message),
                    other => ("unreachable".into(), other.to_string()),
                };
                self.event(Event::Refused { code, message }).await;
                self.event(Event::CaseFailed).await;
            }
            Own::MediaAgain(generation) if generation == self.media_generation => self.event(Event::Media(false)).await,
            Own::MediaAgain(_) => {}
            Own::CommitAgain => {
                self.pausing = false;
                let again = self.author.as_ref().map(|a| a.again()).unwrap_or_default();
                again.into_iter().for_each(|m| self.send(m));
            }
        }
    }

    async fn watch_speaker(&mut self) {
        let why = match self.speaker.state() {
            SinkState::Failed { why, .. } => Some(why),
            _ => None,
        };
        if why.is_some() != self.timing.speaker_failed {
            self.timing.speaker_failed = why.is_some();
            self.event(Event::Trouble(Device::Speaker, why)).await;
        }
    }

    /// Messages to a socket that is not there are void: events are sent again by `author`, the rest by `core`.
    fn send(&self, message: ClientMessage) {
        if let Err(e) = self.up.try_send(message) {
            tracing::warn!("a message to the server was not sent: {e}");
        }
    }

    fn open(&self, case: CaseId) {
        let after_seq = self.chain.as_ref().filter(|c| c.head().case == case).map_or(0, |c| c.head().seq);
        self.send(ClientMessage::OpenCase { case, after_seq, lean: true });
    }
}

fn ready(config: &Config, wear: Option<&Wear>) {
    let page = wear.map(Wear::url);
    let line = serde_json::json!({ "ready": "lotse-glass", "name": config.device.name, "wear": page });
    println!("{line}");
}

/// The display on the wear page. Packing takes longer than drawing: other displays do not wait for it.
struct WearDisplay(watch::Sender<Option<Arc<Rgba>>>);

impl WearDisplay {
    fn start(page: Wear) -> Self {
        let (newest, mut drawn) = watch::channel(None::<Arc<Rgba>>);
        tokio::spawn(async move {
            while drawn.changed().await.is_ok() {
                let Some(pixels) = drawn.borrow_and_update().clone() else { continue };
                match tokio::task::spawn_blocking(move || display::png(&pixels)).await {
                    Ok(Ok(png)) => page.present(png.into()),
                    Ok(Err(e)) => tracing::warn!("{e}"),
                    Err(e) => tracing::warn!("the display was not packed: {e}"),
                }
            }
        });
        Self(newest)
    }
}

impl Display for WearDisplay {
    fn present(&mut self, drawn: &Drawn, _: &Scene) -> Result<(), GlassError> {
        self.0.send_replace(Some(Arc::new(drawn.pixels.clone())));
        Ok(())
    }
}

/// What the camera sees, onto the wear page while somebody looks.
async fn camera_page(page: Wear, feed: Arc<Mutex<Feed>>) {
    let mut tick = tokio::time::interval(CAMERA_PAGE);
    loop {
        tick.tick().await;
        if !page.wants_camera() {
            continue;
        }
        let picture = feed.try_lock().ok().and_then(|f| f.picture(WIDTH as usize, HEIGHT as usize));
        let jpeg = picture.map(|p| tokio::task::spawn_blocking(move || display::jpeg(&p)));
        if let Some(jpeg) = jpeg
            && let Ok(Ok(jpeg)) = jpeg.await
        {
            page.camera(jpeg.into());
        }
    }
}

/// Packets of each voice to the loudspeaker.
fn voice_sink(speaker: Speaker) -> VoiceSink {
    Arc::new(move |track, packet| {
        let Ok(track) = track.parse() else { return };
        match packet {
            Some(p) => speaker.push(
                track,
                VoicePacket {
                    rtp_time: p.header.timestamp,
                    seq: p.header.sequence_number,
                    payload: p.payload,
                    arrived: std::time::Instant::now(),
                },
            ),
            None => speaker.remove(track),
        }
    })
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        r = tokio::signal::ctrl_c() => if r.is_err() { std::future::pending().await },
    }
}
