//! Which encoder the main pictures go through: the first of the profile's list that works, then the next when it fails.
//!
//! Owns: the order, the trial of each, and why others were passed over. `vp8enc` in software is always the last and is
//! started again rather than given up. Never: waits for a driver that hangs longer than [`TRIAL`].
//! Elsewhere: one encoder (`encode`), when to change (`feed`), the list (`profile`).

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use gstreamer as gst;
use serde::Serialize;

use super::encode::{Deliver, Encoder, Size};
use crate::{error::GlassError, profile::EncoderChoice};

/// Opening an encoder and getting one picture through it. Software does it in 0.1 s; 10 s are for a machine with all its
/// hands full. A driver that hangs costs this once.
const TRIAL: Duration = Duration::from_secs(10);
/// An encoder taken out of use has so long to give its device back before the next is opened.
const CLOSING: Duration = Duration::from_secs(1);

/// An encoder that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub element: String,
    pub why: String,
}

/// The list, and where in it we are.
pub struct Encoders {
    choices: Vec<EncoderChoice>,
    at: usize,
    failed: Vec<Failed>,
    started: Option<Instant>,
}

/// Why one is not used that is not there.
pub const MISSING: &str = "there is no such GStreamer element on this machine";

impl Encoders {
    /// `choices` in their order, then VP8 in software.
    pub fn new(choices: &[EncoderChoice]) -> Self {
        Self {
            choices: choices.iter().cloned().chain([EncoderChoice::vp8()]).collect(),
            at: 0,
            failed: Vec::new(),
            started: None,
        }
    }

    /// Starts the first that works, from where we are on.
    pub fn start(&mut self, deliver: Deliver) -> Result<Encoder, GlassError> {
        loop {
            let choice = self.choices[self.at].clone();
            let why = match tried(&choice, deliver.clone()) {
                Ok(encoder) => {
                    self.started = Some(Instant::now());
                    return Ok(encoder);
                }
                Err(why) => why,
            };
            tracing::info!("encoder {}: {why}", choice.element);
            if !self.pass_over(why) {
                return Err(GlassError::Encoder { why: self.reasons() });
            }
        }
    }

    /// Notes why the present one is no use. `false`: it is the last and stays the next one to try.
    pub fn pass_over(&mut self, why: String) -> bool {
        let element = self.choices[self.at].element.clone();
        // One that is started again and again is told once, with its newest reason.
        self.failed.retain(|f| f.element != element);
        self.failed.push(Failed { element, why });
        let more = self.at + 1 < self.choices.len();
        self.at += usize::from(more);
        more
    }

    /// How long ago the newest one was started.
    pub fn age(&self) -> Duration {
        self.started.map(|at| at.elapsed()).unwrap_or_default()
    }

    pub fn failed(&self) -> &[Failed] {
        &self.failed
    }

    fn reasons(&self) -> String {
        self.failed.iter().map(|f| format!("{}: {}", f.element, f.why)).collect::<Vec<_>>().join("; ")
    }
}

/// Ends an encoder where nobody waits for its driver.
pub fn close(encoder: Encoder) {
    if within(CLOSING, move || drop(encoder)).is_none() {
        tracing::warn!("an encoder does not end; its thread is left alone");
    }
}

/// Starts one and gets a picture through it.
fn tried(choice: &EncoderChoice, deliver: Deliver) -> Result<Encoder, String> {
    if gst::ElementFactory::find(&choice.element).is_none() {
        return Err(MISSING.into());
    }
    let choice = choice.clone();
    within(TRIAL, move || {
        let encoder = Encoder::start(Size::Main, &choice, deliver)?;
        encoder.trial(TRIAL)?;
        Ok(encoder)
    })
    .unwrap_or_else(|| Err(format!("it gave no picture within {} s", TRIAL.as_secs())))
}

/// The result of `work`, if it comes in time. Work that hangs keeps its thread; what it makes later is dropped there.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = mpsc::sync_channel(0);
    thread::spawn(move || done.send(work()));
    result.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::capture;

    fn choice(element: &str, settings: &str) -> EncoderChoice {
        EncoderChoice { element: element.into(), settings: settings.into(), ..EncoderChoice::vp8() }
    }

    fn vp8_and(more: &str) -> EncoderChoice {
        choice("vp8enc", &format!("deadline=1 ! {more}"))
    }

    fn nowhere() -> Deliver {
        Arc::new(|_| panic!("pictures of a trial are not delivered"))
    }

    #[test]
    fn the_first_that_gives_a_picture_is_used_and_the_others_say_why_not() {
        capture::init().expect("gstreamer");
        let mut list = Encoders::new(&[
            choice("nosuchenc", ""),
            choice("vp8enc", "no-such-property=1"),
            vp8_and("identity error-after=1"),
            vp8_and("video/x-vp9"),
            vp8_and("identity eos-after=1"),
        ]);
        let encoder = list.start(nowhere()).expect("software VP8 works");
        assert_eq!(encoder.element(), "vp8enc");
        // All with one name are told once, with the newest reason.
        let failed = list.failed();
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(failed[0].element == "nosuchenc" && failed[0].why.contains("no such GStreamer element"), "{failed:?}");
        assert_eq!(list.at, 5, "the last one is in use");
        assert!(encoder.fault().is_none());
    }

    #[test]
    fn an_encoder_that_gives_nothing_is_passed_over() {
        capture::init().expect("gstreamer");
        let silent = Encoder::start(Size::Main, &vp8_and("valve drop=true"), nowhere()).expect("starts");
        let why = silent.trial(Duration::from_millis(300)).expect_err("nothing comes out");
        assert!(why.contains("no picture"), "{why}");
    }

    #[test]
    fn the_last_resort_is_never_left() {
        let mut list = Encoders::new(&[choice("x264enc", "")]);
        assert!(list.pass_over("broken".into()));
        assert!(!list.pass_over("broken".into()) && !list.pass_over("again".into()));
        assert_eq!(list.failed().last(), Some(&Failed { element: "vp8enc".into(), why: "again".into() }));
        assert_eq!(list.failed().len(), 2);
    }

    #[test]
    fn what_hangs_is_left_alone() {
        let (free, wait) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(50), move || wait.recv()), None);
        assert_eq!(within(Duration::from_secs(10), || 7), Some(7));
        drop(free);
    }
}
