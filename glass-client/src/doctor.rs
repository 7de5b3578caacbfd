//! `lotse-glass doctor`: what works here and what does not, each with the next step.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    capture::{self, Outlets},
    config::Config,
    error::GlassError,
    link::{http::Api, identity::Identity},
    profile::Profile,
    voice::{SinkState, Speaker, SpeakerConfig},
};

/// How long sources may take to deliver.
const TRIAL: Duration = Duration::from_millis(1_500);

/// Prints a line per check; `as_json`: an object. `false` if one failed.
pub async fn check(config: &Config, as_json: bool) -> bool {
    let mut well = true;
    let mut say = |what: &str, result: Result<String, GlassError>| {
        let (ok, found) = result.map_or_else(|e| (false, e.to_string()), |words| (true, words));
        well &= ok;
        if as_json {
            println!("{}", serde_json::json!({ "kind": "doctor", "what": what, "ok": ok, "found": found }));
        } else {
            println!("{} {what}: {found}", if ok { "ok     " } else { "NOT OK " });
        }
    };
    let profile = Profile::load(&config.device.profile);
    say("profile", profile.as_ref().map(|p| p.name.clone()).map_err(copy));
    let profile = profile.unwrap_or_default();
    let identity = Identity::open(&config.data.dir).map(Arc::new);
    say(
        "device key",
        identity
            .as_ref()
            .map(|i| if i.enrolled().is_some() { "enrolled".into() } else { "not enrolled yet".into() })
            .map_err(copy),
    );
    say("encoder", encoder(&profile));
    for line in sources(config, &profile) {
        say(line.0, line.1);
    }
    say("speaker", speaker(config).await);
    match identity.and_then(|i| Api::new(config, i)) {
        Ok(api) => say("server", api.health().await),
        Err(e) => say("server", Err(e)),
    }
    well
}

fn copy(e: &GlassError) -> GlassError {
    GlassError::Ours(e.to_string())
}

fn encoder(profile: &Profile) -> Result<String, GlassError> {
    capture::init()?;
    let encoder = capture::encode::Encoder::start(capture::encode::Size::Main, &profile.encoder, |_| {})?;
    Ok(format!("{} ({:?})", encoder.element(), encoder.codec()))
}

fn sources(config: &Config, profile: &Profile) -> Vec<(&'static str, Result<String, GlassError>)> {
    if let Err(e) = capture::init() {
        return vec![("camera", Err(e))];
    }
    let (pictures, sounds) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (p, s) = (pictures.clone(), sounds.clone());
    let outlets = Outlets {
        picture: Arc::new(move |_| {
            p.fetch_add(1, Ordering::Relaxed);
        }),
        sound: Arc::new(move |_| {
            s.fetch_add(1, Ordering::Relaxed);
        }),
        trouble: Arc::new(|t| eprintln!("{t:?}")),
    };
    let mut lines = Vec::new();
    let mut running = Vec::new();
    for source in capture::sources(config, profile) {
        match source.start(outlets.clone()) {
            Ok(r) => running.push(r),
            Err(e @ GlassError::Sound { .. }) => lines.push(("microphone", Err(e))),
            Err(e) => lines.push(("camera", Err(e))),
        }
    }
    std::thread::sleep(TRIAL);
    let per_second = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64 / TRIAL.as_secs_f64();
    if !lines.iter().any(|l| l.0 == "camera") {
        lines.push((
            "camera",
            Ok(format!("{} gives {:.0} pictures a second", config.camera.source, per_second(&pictures))),
        ));
    }
    if config.sound.microphone != "none" && !lines.iter().any(|l| l.0 == "microphone") {
        lines.push((
            "microphone",
            Ok(format!("{} gives {:.0} blocks a second", config.sound.microphone, per_second(&sounds))),
        ));
    }
    lines
}

async fn speaker(config: &Config) -> Result<String, GlassError> {
    let speaker = Speaker::start(SpeakerConfig::parse(&config.sound.speaker)?);
    for _ in 0..30 {
        match speaker.state() {
            SinkState::Starting => tokio::time::sleep(Duration::from_millis(100)).await,
            SinkState::Failed { why, remedy } => {
                return Err(GlassError::Sound { device: config.sound.speaker.clone(), why, remedy });
            }
            SinkState::Playing => return Ok("plays".into()),
            SinkState::Off => return Ok("none, as configured".into()),
        }
    }
    Ok("still starting".into())
}
