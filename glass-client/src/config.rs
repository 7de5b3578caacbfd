//! The settings of one pair of glasses: one TOML file, every key also as `LOTSE_<SECTION>_<KEY>`.
//!
//! Owns: reading, defaults and the sentence that names file, key, value and remedy.
//! Never: touches a device. Elsewhere: what the hardware can do (`profile`).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::{error::GlassError, hud::panel::is_panel, voice::SpeakerConfig};

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub data: Data,
    pub camera: Camera,
    pub sound: Sound,
    pub hud: Hud,
    pub input: Input,
    pub device: Device,
    pub call: Call,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// "http://…" on loopback, "https://…" beyond.
    pub url: String,
    /// Needed once; afterwards the device key speaks.
    pub pairing_code: String,
    /// File that names the kind of a simulated link; empty: the link is real. The wear page offers to change it.
    pub simulated_link: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Device key and state, 0700.
    pub dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Camera {
    /// "v4l2:/dev/video0", "file:CLIP", "test".
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sound {
    /// "auto", "file" (the clip's sound), "test", "none".
    pub microphone: String,
    /// "auto", "alsa:DEVICE", "wav:FILE", "none".
    pub speaker: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hud {
    /// Any of "web:ADDRESS", "png:FOLDER", "wayland[:SOCKET]", "drm[:CARD[:CONNECTOR]]".
    pub displays: Vec<String>,
    pub language: Language,
}

/// Languages of the display.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    De,
    #[default]
    En,
}

impl Language {
    pub fn code(self) -> &'static str {
        match self {
            Language::De => "de",
            Language::En => "en",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// Any of "socket:PATH".
    pub sources: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    /// File of a device profile; empty: software encoding on any Linux.
    pub profile: String,
    /// As shown to others, e.g. "helmet-1".
    pub name: String,
    /// The person wearing them; empty: the account's name.
    pub wearer: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Call {
    /// Call an expert as soon as the program runs.
    pub on_start: bool,
    /// The picture follows what the link carries.
    pub follow_link: bool,
    pub title: String,
    /// Ids of the registers of the server; empty: none.
    pub asset: String,
    pub customer: String,
    pub site: String,
}

impl Default for Server {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:8080".into(), pairing_code: String::new(), simulated_link: String::new() }
    }
}
impl Default for Data {
    fn default() -> Self {
        Self { dir: "lotse-glass-data".into() }
    }
}
impl Default for Camera {
    fn default() -> Self {
        Self { source: "v4l2:/dev/video0".into() }
    }
}
impl Default for Sound {
    fn default() -> Self {
        Self { microphone: "auto".into(), speaker: "auto".into() }
    }
}
impl Default for Hud {
    fn default() -> Self {
        Self { displays: vec!["web:127.0.0.1:8090".into()], language: Language::En }
    }
}
impl Default for Device {
    fn default() -> Self {
        Self { profile: String::new(), name: "glasses".into(), wearer: String::new() }
    }
}
impl Default for Call {
    fn default() -> Self {
        Self {
            on_start: true,
            follow_link: true,
            title: String::new(),
            asset: String::new(),
            customer: String::new(),
            site: String::new(),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    List,
}

/// Every key there is: what the environment may set.
const KEYS: &[(&str, &str, Kind)] = &[
    ("server", "url", Kind::Text),
    ("server", "pairing_code", Kind::Text),
    ("server", "simulated_link", Kind::Text),
    ("data", "dir", Kind::Text),
    ("camera", "source", Kind::Text),
    ("sound", "microphone", Kind::Text),
    ("sound", "speaker", Kind::Text),
    ("hud", "displays", Kind::List),
    ("hud", "language", Kind::Text),
    ("input", "sources", Kind::List),
    ("device", "profile", Kind::Text),
    ("device", "name", Kind::Text),
    ("device", "wearer", Kind::Text),
    ("call", "on_start", Kind::Flag),
    ("call", "follow_link", Kind::Flag),
    ("call", "title", Kind::Text),
    ("call", "asset", Kind::Text),
    ("call", "customer", Kind::Text),
    ("call", "site", Kind::Text),
];

/// Reads the file (or none) and lays the environment over it.
pub fn load(file: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Config, GlassError> {
    let (text, place) = match file {
        Some(path) => {
            (std::fs::read_to_string(path).map_err(|e| GlassError::file(path, e))?, path.display().to_string())
        }
        None => (String::new(), "settings".to_owned()),
    };
    read(&text, &place, env)
}

/// Settings from the text of a file. `place`: how errors name it.
pub fn read(text: &str, place: &str, env: impl Fn(&str) -> Option<String>) -> Result<Config, GlassError> {
    let mut table: Table = toml::from_str(text).map_err(|e| wrong(place, "file", "", e.message()))?;
    for &(section, key, kind) in KEYS {
        let name = format!("LOTSE_{}_{}", section.to_uppercase(), key.to_uppercase());
        let Some(text) = env(&name) else { continue };
        let value = match kind {
            Kind::Text => Value::String(text),
            Kind::Flag => match text.as_str() {
                "true" | "1" => Value::Boolean(true),
                "false" | "0" => Value::Boolean(false),
                _ => return Err(wrong("environment", &name, &text, "is neither true nor false")),
            },
            Kind::List => Value::Array(
                text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(|p| Value::String(p.into())).collect(),
            ),
        };
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(key.into(), value);
        }
    }
    let config: Config =
        Value::Table(table).try_into().map_err(|e: toml::de::Error| wrong(place, "file", "", e.message()))?;
    check(&config, place)?;
    Ok(config)
}

fn check(config: &Config, place: &str) -> Result<(), GlassError> {
    let bad = |key: &str, value: &str, why: &str| Err(wrong(place, key, value, why));
    let url = &config.server.url;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return bad("[server] url", url, "is not an address like https://lotse.example.org");
    }
    let source = &config.camera.source;
    if source != "test" && !source.starts_with("file:") && !source.starts_with("v4l2:") {
        return bad("[camera] source", source, "is none of v4l2:DEVICE, file:CLIP, test");
    }
    let mic = &config.sound.microphone;
    if !["auto", "file", "test", "none"].contains(&mic.as_str()) {
        return bad("[sound] microphone", mic, "is none of auto, file, test, none");
    }
    if mic == "file" && !source.starts_with("file:") {
        return bad("[sound] microphone", mic, "needs [camera] source = \"file:CLIP\"");
    }
    let speaker = &config.sound.speaker;
    if SpeakerConfig::parse(speaker).is_err() {
        return bad("[sound] speaker", speaker, "is none of auto, alsa:DEVICE, wav:FILE, none");
    }
    for d in &config.hud.displays {
        if !d.starts_with("web:") && !d.starts_with("png:") && !is_panel(d) {
            return bad(
                "[hud] displays",
                d,
                "is none of web:ADDRESS, png:FOLDER, wayland, wayland:SOCKET, drm, drm:CARD:CONNECTOR",
            );
        }
    }
    for s in &config.input.sources {
        if !s.starts_with("socket:") {
            return bad("[input] sources", s, "is not socket:PATH");
        }
    }
    Ok(())
}

fn wrong(place: &str, key: &str, value: &str, why: &str) -> GlassError {
    GlassError::Setting {
        place: place.into(),
        key: key.into(),
        value: value.into(),
        why: why.trim().into(),
        remedy: "Every key is explained in glass.toml.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotated_file_is_valid_and_equals_the_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("glass.toml");
        assert_eq!(load(Some(&file), |_| None).expect("glass.toml"), Config::default());
    }

    #[test]
    fn environment_overrides_each_key() {
        let config = load(None, |name| match name {
            "LOTSE_HUD_DISPLAYS" => Some("png:/tmp/a, web:127.0.0.1:0".into()),
            "LOTSE_CALL_ON_START" => Some("false".into()),
            "LOTSE_HUD_LANGUAGE" => Some("de".into()),
            _ => None,
        })
        .expect("valid");
        assert_eq!(config.hud.displays, ["png:/tmp/a", "web:127.0.0.1:0"]);
        assert!(!config.call.on_start);
        assert_eq!(config.hud.language, Language::De);
    }

    #[test]
    fn wrong_values_name_key_value_and_remedy() {
        for (name, value) in [
            ("LOTSE_SERVER_URL", "lotse"),
            ("LOTSE_CAMERA_SOURCE", "usb"),
            ("LOTSE_SOUND_MICROPHONE", "file"),
            ("LOTSE_SOUND_SPEAKER", "loud"),
            ("LOTSE_HUD_DISPLAYS", "x11:0"),
            ("LOTSE_INPUT_SOURCES", "mouse"),
            ("LOTSE_CALL_ON_START", "maybe"),
        ] {
            let error = load(None, |n| (n == name).then(|| value.to_owned())).expect_err(name).to_string();
            assert!(error.contains(value) && error.contains("glass.toml"), "{error}");
        }
    }

    #[test]
    fn every_speaker_that_can_be_opened_can_be_set_and_is_explained() {
        let set = |value: &str| load(None, |n| (n == "LOTSE_SOUND_SPEAKER").then(|| value.to_owned()));
        for value in ["auto", "alsa:hw:1,0", "alsa:default", "wav:/tmp/heard.wav", "none"] {
            assert_eq!(set(value).expect(value).sound.speaker, value);
            SpeakerConfig::parse(value).expect(value);
        }
        for value in ["alsa:", "wav:", "alsa", "", "Auto", "hw:1,0"] {
            assert!(set(value).is_err() && SpeakerConfig::parse(value).is_err(), "{value}");
        }
        let annotated = include_str!("../glass.toml");
        let protocol = include_str!("../../docs/PROTOCOL.md");
        for form in ["\"auto\"", "\"alsa:DEVICE\"", "\"wav:FILE\"", "\"none\""] {
            let explained = |text: &str, mark| text.lines().any(|l| l.contains(form) && l.contains(mark));
            assert!(explained(annotated, "the sound device, "), "{form}");
            assert!(explained(protocol, "`speaker = "), "{form}");
        }
    }

    #[test]
    fn every_display_can_be_set_and_is_explained() {
        for value in
            ["web:127.0.0.1:0", "png:/tmp/a", "wayland", "wayland:/run/w", "drm", "drm:/dev/dri/card0:HDMI-A-1"]
        {
            load(None, |n| (n == "LOTSE_HUD_DISPLAYS").then(|| value.to_owned())).expect(value);
        }
        for form in [
            "\"web:ADDRESS\"",
            "\"png:FOLDER\"",
            "\"wayland\"",
            "\"wayland:SOCKET\"",
            "\"drm\"",
            "\"drm:CARD:CONNECTOR\"",
        ] {
            assert!(include_str!("../glass.toml").contains(form), "{form}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("g.toml");
        std::fs::write(&file, "[camera]\nsauce = \"test\"\n").expect("write");
        let error = load(Some(&file), |_| None).expect_err("typo").to_string();
        assert!(error.contains("sauce"), "{error}");
    }
}
