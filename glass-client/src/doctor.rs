//! `lotse-glass doctor`: what works here and what does not, each with the next step, in German or English.
//!
//! One line per finding, `ok` or `NOT OK`; `--json` gives the same to machines. Works beside a running server and without one.
//! Never: changes anything but a file it writes and removes to try a folder. Elsewhere: media ports; only a call knows them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use lotse_operations::doctor::{self, Finding, Printer, clock, failed, fine, wrong};

use crate::{
    capture::{self, Outlets, encoders},
    config::{Config, Language},
    error::GlassError,
    hud::panel,
    link::{
        http::{Api, pin},
        identity::Identity,
    },
    profile::Profile,
    voice::{SinkState, Speaker, SpeakerConfig},
};

/// How long sources may take to deliver.
const TRIAL: Duration = Duration::from_millis(1_500);
/// Of full scale 32768: a quiet room gives more, a muted microphone gives zeros.
const SILENT: i32 = 2;

/// Prints a line per finding; `as_json`: an object. `false` if one needs mending.
pub async fn check(config: &Config, as_json: bool) -> bool {
    let german = language(config, |name| std::env::var(name).ok()) == Language::De;
    let mut printer = Printer::new(german, as_json);
    let mut say = |finding: Finding| printer.say(&finding);
    let profile = Profile::load(&config.device.profile);
    say(match &profile {
        Ok(p) => fine("profile", p.name.clone(), p.name.clone()),
        Err(e) => failed("profile", e),
    });
    let profile = profile.unwrap_or_default();
    say(disk(&config.data.dir));
    let identity = Identity::open(&config.data.dir).map(Arc::new);
    say(match &identity {
        Ok(i) if i.enrolled().is_some() => fine("device key", "enrolled", "angemeldet"),
        Ok(_) if config.server.pairing_code.is_empty() => wrong(
            "device key",
            "not enrolled. Ask an administrator for a pairing code and set [server] pairing_code",
            "nicht angemeldet. Kopplungscode bei der Administration holen und in [server] pairing_code eintragen",
        ),
        Ok(_) => fine(
            "device key",
            "not enrolled yet; a pairing code is set",
            "noch nicht angemeldet; ein Kopplungscode ist gesetzt",
        ),
        Err(e) => failed("device key", e),
    });
    let found = tokio::task::block_in_place(|| {
        let mut found = encoder(&profile);
        found.extend(sources(config, &profile));
        found.extend(displays(config));
        found
    });
    found.into_iter().for_each(&mut say);
    say(speaker(config).await);
    server(config, identity).await.into_iter().for_each(&mut say);
    printer.well
}

/// That of the display; German also where the system speaks German.
fn language(config: &Config, env: impl Fn(&str) -> Option<String>) -> Language {
    if doctor::german(env) { Language::De } else { config.hud.language }
}

fn disk(dir: &Path) -> Finding {
    let shown = dir.display();
    let tried = (|| {
        std::fs::create_dir_all(dir)?;
        let probe = dir.join(".doctor");
        let written = std::fs::write(&probe, b"x");
        // Removed even when it could not be filled.
        let _ = std::fs::remove_file(&probe);
        written?;
        Ok::<_, std::io::Error>(lotse_operations::disk::space(dir)?.free)
    })();
    match tried {
        Ok(free) if free < lotse_operations::disk::LITTLE => wrong(
            "disk",
            format!("{shown} has only {} MiB free. Make room, or move [data] dir", free >> 20),
            format!("{shown} hat nur {} MiB frei. Platz schaffen oder [data] dir verlegen", free >> 20),
        ),
        Ok(free) => fine(
            "disk",
            format!("{shown} is writable, {} MiB free", free >> 20),
            format!("{shown} ist beschreibbar, {} MiB frei", free >> 20),
        ),
        Err(e) => wrong(
            "disk",
            format!("{shown}: {e}. Give the folder to the user lotse-glass runs as, or name another one in [data] dir"),
            format!(
                "{shown}: {e}. Den Ordner dem Benutzer von lotse-glass geben oder in [data] dir einen anderen nennen"
            ),
        ),
    }
}

/// The encoder in use, and of those before it in the list why not.
fn encoder(profile: &Profile) -> Vec<Finding> {
    if let Err(e) = capture::init() {
        return vec![failed("encoder", &e)];
    }
    let mut list = encoders::Encoders::new(&profile.encoder);
    let started = list.start(Arc::new(|_| {}));
    // One that is passed over is no fault while another works.
    let mut found: Vec<Finding> = list
        .failed()
        .iter()
        .map(|f| {
            let (element, why) = (&f.element, &f.why);
            let de = if why == encoders::MISSING {
                format!("{element} wird nicht benutzt: auf diesem Gerät nicht vorhanden")
            } else {
                format!("{element} wird nicht benutzt: {why} (Meldung des Programms, englisch)")
            };
            fine("encoder", format!("{element} is not used: {why}"), de)
        })
        .collect();
    found.push(match started {
        Ok(encoder) => {
            let (element, codec) = (encoder.element().to_owned(), encoder.codec());
            encoders::close(encoder);
            fine("encoder", format!("{element} works ({codec:?})"), format!("{element} arbeitet ({codec:?})"))
        }
        Err(e) => failed("encoder", &e),
    });
    found
}

fn sources(config: &Config, profile: &Profile) -> Vec<Finding> {
    if let Err(e) = capture::init() {
        return vec![failed("camera", &e)];
    }
    let (pictures, sounds, peak) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicI32::new(0)));
    let (p, s, loudest) = (pictures.clone(), sounds.clone(), peak.clone());
    let outlets = Outlets {
        picture: Arc::new(move |_| {
            p.fetch_add(1, Ordering::Relaxed);
        }),
        sound: Arc::new(move |block| {
            s.fetch_add(1, Ordering::Relaxed);
            let top = block.samples.iter().map(|v| i32::from(*v).abs()).max().unwrap_or(0);
            loudest.fetch_max(top, Ordering::Relaxed);
        }),
        trouble: Arc::new(|t| eprintln!("{t:?}")),
    };
    let mut found = Vec::new();
    let mut running = Vec::new();
    for source in capture::sources(config, profile) {
        match source.start(outlets.clone()) {
            Ok(r) => running.push(r),
            Err(e @ GlassError::Sound { .. }) => found.push(failed("microphone", &e)),
            Err(e) => found.push(failed("camera", &e)),
        }
    }
    std::thread::sleep(TRIAL);
    drop(running);
    let source = &config.camera.source;
    if !found.iter().any(|f| f.what == "camera") {
        let rate = (pictures.load(Ordering::Relaxed) as f64 / TRIAL.as_secs_f64()).round();
        found.push(if rate > 0.0 {
            fine("camera", format!("{source} gives {rate} pictures a second"), format!("{source} liefert {rate} Bilder je Sekunde"))
        } else {
            wrong(
                "camera",
                format!("{source} opens, but gives no picture. Plug it in again; v4l2-ctl --list-formats-ext shows what it can, [camera] of the profile asks for it"),
                format!("{source} öffnet sich, liefert aber kein Bild. Neu einstecken; v4l2-ctl --list-formats-ext zeigt, was sie kann, [camera] im Profil fordert es an"),
            )
        });
    }
    let mic = &config.sound.microphone;
    if mic == "none" {
        found.push(fine("microphone", "none, as configured", "keines, wie eingestellt"));
    } else if !found.iter().any(|f| f.what == "microphone") {
        let (blocks, top) = (sounds.load(Ordering::Relaxed), peak.load(Ordering::Relaxed));
        found.push(microphone(mic, blocks, top));
    }
    found
}

fn microphone(name: &str, blocks: u64, peak: i32) -> Finding {
    if blocks == 0 {
        return wrong(
            "microphone",
            format!("{name} opens, but gives no sound. Plug the headset in again; arecord -l shows what is there"),
            format!(
                "{name} öffnet sich, liefert aber keinen Ton. Headset neu einstecken; arecord -l zeigt, was da ist"
            ),
        );
    }
    if peak <= SILENT {
        return wrong(
            "microphone",
            format!("{name} is silent. Switch it on at the headset; alsamixer (F4) shows whether it is muted"),
            format!("{name} ist stumm. Am Headset einschalten; alsamixer (F4) zeigt, ob es stummgeschaltet ist"),
        );
    }
    let level = (20.0 * (f64::from(peak) / 32_768.0).log10()).round();
    fine(
        "microphone",
        format!("{name} hears: loudest {level} dB, full scale is 0 dB"),
        format!("{name} hört: lauteste Stelle {level} dB, voll sind 0 dB"),
    )
}

fn displays(config: &Config) -> Vec<Finding> {
    if config.hud.displays.is_empty() {
        return vec![wrong(
            "display",
            "none is set: nothing is shown. Name one in [hud] displays",
            "keines eingestellt: nichts wird gezeigt. Eines in [hud] displays nennen",
        )];
    }
    config.hud.displays.iter().map(|name| display(name)).collect()
}

fn display(name: &str) -> Finding {
    if panel::is_panel(name) {
        return match panel::look_at(name) {
            Ok((w, h)) => fine("display", format!("{name}: {w}x{h}"), format!("{name}: {w}x{h}")),
            Err(why) => failed("display", &format!("{name}: {why}")),
        };
    }
    if let Some(dir) = name.strip_prefix("png:") {
        let mut finding = disk(Path::new(dir));
        finding.what = "display";
        return finding;
    }
    let address = name.strip_prefix("web:").unwrap_or(name);
    let bound = std::net::TcpListener::bind(address).map(drop);
    doctor::listens("display", bound, &address, "lotse-glass", "[hud] displays", "Geräts")
}

async fn speaker(config: &Config) -> Finding {
    let set = match SpeakerConfig::parse(&config.sound.speaker) {
        Ok(set) => set,
        Err(e) => return failed("speaker", &e),
    };
    let speaker = Speaker::start(set);
    for _ in 0..30 {
        match speaker.state() {
            SinkState::Starting => tokio::time::sleep(Duration::from_millis(100)).await,
            SinkState::Failed { why, remedy } => {
                return failed("speaker", &GlassError::Sound { device: config.sound.speaker.clone(), why, remedy });
            }
            SinkState::Playing => return fine("speaker", "plays", "spielt"),
            SinkState::Off => return fine("speaker", "none, as configured", "keiner, wie eingestellt"),
        }
    }
    wrong(
        "speaker",
        "does not start. Plug the headset in again; aplay -l shows what is there",
        "startet nicht. Headset neu einstecken; aplay -l zeigt, was da ist",
    )
}

/// Whether it answers, what its certificate is worth, and what time it has.
async fn server(config: &Config, identity: Result<Arc<Identity>, GlassError>) -> Vec<Finding> {
    let identity = match identity {
        Ok(identity) => identity,
        Err(e) => return vec![failed("server", &e), clock(SystemTime::now(), None)],
    };
    let api = match Api::new(config, identity.clone()) {
        Ok(api) => api,
        Err(e) => return vec![failed("server", &e), clock(SystemTime::now(), None)],
    };
    let url = &config.server.url;
    let (answer, date) = match api.health().await {
        Ok(date) => (fine("server", format!("{url} answers"), format!("{url} antwortet")), date),
        Err(e) => (failed("server", &e), None),
    };
    let mut found = vec![answer, clock(SystemTime::now(), date)];
    let pin = pin(config, &identity).ok().flatten();
    // What is wrong with it was said by "server" above.
    if let Some(facts) = lotse_trust::sound_facts(url, pin).await {
        found.push(doctor::certificate(facts.days_left(SystemTime::now()), &facts.names));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microphone_without_sound_and_a_muted_one_are_told_apart() {
        assert!(microphone("auto", 0, 0).en.contains("no sound"));
        assert!(microphone("auto", 70, 0).de.contains("stumm"));
        let hears = microphone("auto", 70, 3_277);
        assert!(hears.ok && hears.en.contains("-20 dB"), "{}", hears.en);
    }

    #[test]
    fn german_comes_from_the_system_or_the_display() {
        let mut config = Config::default();
        assert_eq!(language(&config, |n| (n == "LANG").then(|| "de_DE.UTF-8".into())), Language::De);
        assert_eq!(language(&config, |n| (n == "LANG").then(|| "C.UTF-8".into())), Language::En);
        config.hud.language = Language::De;
        assert_eq!(language(&config, |_| None), Language::De);
    }

    #[test]
    fn each_display_is_looked_at() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(display(&format!("png:{}", dir.path().join("hud").display())).ok);
        assert!(display("web:127.0.0.1:0").ok);
        assert!(!display("web:192.0.2.1:9").ok, "no address of this machine");
        let none = display("wayland:/nowhere/w");
        assert!(!none.ok && none.en.contains("weston"), "{}", none.en);
        assert!(!display("drm:/nowhere/card0").ok);
    }
}
