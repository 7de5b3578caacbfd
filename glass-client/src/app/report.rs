//! What the wear page and tests may know of the running program: one plain structure.

use std::collections::BTreeMap;

use lotse_interceptor::PathNow;
use lotse_payload::LinkState;
use lotse_protocol::id::EventId;
use serde::Serialize;

use super::App;
use crate::{
    capture::encoders::Failed,
    core::view::{Link, Recording, Screen},
    feed::Counted,
    hud::{Scene, display::Presented},
    link::media::Media,
    overlay::prepare::Made,
    voice,
};

/// The state, as `GET /state` shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Aligned UTC.
    pub at_ms: i64,
    pub name: String,
    pub language: &'static str,
    pub screen: &'static str,
    pub case: Option<String>,
    pub case_number: Option<String>,
    pub session: Option<String>,
    pub instruction: Option<EventId>,
    /// "off", "starting", "on", "paused".
    pub recording: &'static str,
    pub recording_since_ms: Option<i64>,
    /// "connecting", "good", "poor", "stills", "voice_only", "lost".
    pub link: &'static str,
    pub media: bool,
    /// With `[call] follow_link`, once the server has said something.
    pub path: Option<Way>,
    pub watchers: Vec<String>,
    pub private: bool,
    pub offered: Vec<Offered>,
    /// Why a loudspeaker is missing.
    pub speaker_trouble: Option<String>,
    /// 0 silence, 1 full scale.
    pub microphone_level: f32,
    pub speaker_level: f32,
    pub frames: Option<Counted>,
    pub voices: voice::Counters,
    /// The GStreamer element; empty while one is being replaced.
    pub encoder: String,
    /// Those of the profile's list that are not used, and why.
    pub encoders_failed: Vec<Failed>,
    /// Displays that do not work, by their setting, and why.
    pub display_troubles: BTreeMap<String, String>,
    pub waiting_events: usize,
    pub clock_offset_us: i64,
    pub timing: Timing,
}

/// The way to the server, as feedback tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    pub target_kbit: u32,
    pub delivered_kbit: u32,
    /// 0 to 1.
    pub loss: f64,
    pub queue_ms: u64,
    pub round_trip_ms: Option<u64>,
}

impl Way {
    fn of(now: &PathNow) -> Self {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            target_kbit: (now.target_bps / 1e3) as u32,
            delivered_kbit: (now.delivered_bps / 1e3) as u32,
            loss: now.loss,
            queue_ms: ms(now.queue),
            round_trip_ms: now.round_trip.map(ms),
        }
    }
}

/// A word that can be said now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Offered {
    pub word: &'static str,
    pub label: &'static str,
    pub focus: bool,
    pub on_hud: bool,
}

/// How long things took, µs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Drawing and handing to the displays, the last one.
    pub present_us: u64,
    /// Decoding and drawing the last marked picture, and how many frames were decoded for it.
    pub marked_us: u64,
    pub marked_frames: usize,
    #[serde(skip)]
    pub speaker_failed: bool,
}

impl Timing {
    pub fn presented(&mut self, p: &Presented) {
        self.present_us = p.took_us;
    }

    pub fn made(&mut self, made: &Made) {
        self.marked_us = made.took_us;
        self.marked_frames = made.frames;
    }
}

impl Report {
    pub(super) fn of(scene: &Scene, app: &App) -> Self {
        let view = &scene.view;
        let (recording, recording_since_ms) = match view.status.recording {
            Recording::Off => ("off", None),
            Recording::Starting => ("starting", None),
            Recording::Paused => ("paused", None),
            Recording::On { since_ms } => ("on", Some(since_ms)),
        };
        let offered = |c: &crate::core::view::Command| Offered {
            word: c.word.text(),
            label: c.label,
            focus: c.focus,
            on_hud: c.on_hud,
        };
        // The feed is locked for long only while its devices are opened again.
        let feed = app.feed.try_lock().ok();
        Self {
            at_ms: scene.now_ms,
            name: app.config.device.name.clone(),
            language: view.language.code(),
            screen: view.screen.name(),
            case: app.case.map(|c| c.0.to_string()),
            case_number: view.status.case.clone(),
            session: app.core.session_id().map(|s| s.to_string()),
            instruction: match &view.screen {
                Screen::Instruction(s) => Some(s.id),
                _ => None,
            },
            recording,
            recording_since_ms,
            link: match view.status.link {
                Link::Connecting => "connecting",
                Link::Good => "good",
                Link::Poor(LinkState::StillMode, _) => "stills",
                Link::Poor(LinkState::AudioOnly, _) => "voice_only",
                Link::Poor(..) => "poor",
                Link::Lost => "lost",
            },
            media: app.core.has_media(),
            path: app.media.as_ref().and_then(Media::path).as_ref().map(Way::of),
            watchers: view.status.watchers.clone(),
            private: view.status.private,
            offered: view.commands.iter().map(offered).collect(),
            speaker_trouble: match app.speaker.state() {
                voice::SinkState::Failed { why, .. } => Some(why),
                _ => None,
            },
            microphone_level: feed.as_ref().map_or(0.0, |f| f.microphone_level()),
            speaker_level: app.speaker.level(),
            frames: feed.as_ref().map(|f| f.counted()),
            voices: app.speaker.counters(),
            encoder: feed.as_ref().map(|f| f.encoder()).unwrap_or_default(),
            encoders_failed: feed.as_ref().map(|f| f.encoders_failed()).unwrap_or_default(),
            display_troubles: app.troubles.lock().map(|t| t.clone()).unwrap_or_default(),
            waiting_events: app.author.as_ref().map_or(0, |a| a.waiting()),
            clock_offset_us: app.clock.offset_us(),
            timing: app.timing.clone(),
        }
    }
}
