//! What one kind of glasses has: camera modes and encoders.
//!
//! Owns: the keys of the files in `hardware/profiles`, their ranges, and the sentence that names file, key, value and
//! remedy. What a profile leaves out is as in `any-linux.toml`, which is built in. Never: touches a device.
//! Elsewhere: the settings of one pair of glasses (`config`).

use std::path::Path;

use lotse_protocol::signal::Codec;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::GlassError;

/// The default profile: its file is the description of every key.
const ANY_LINUX: &str = include_str!("../../hardware/profiles/any-linux.toml");
const REMEDY: &str = "hardware/profiles/README.md explains every key.";

/// A device profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    pub camera: CameraModes,
    /// Tried in order; the first that works is used. The last resort is always `vp8enc`.
    pub encoder: Vec<EncoderChoice>,
}

/// What to ask of the camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraModes {
    /// "MJPG" or "YUYV"; empty: let the driver choose.
    pub format: String,
    pub width: u16,
    pub height: u16,
    pub fps: u16,
}

/// One encoder: a GStreamer element, how to set it, and the name and unit of its bit rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderChoice {
    /// "v4l2h264enc", "openh264enc", …
    pub element: String,
    /// "h264" or "vp8".
    pub codec: String,
    /// Properties as on a gst-launch line, `{bitrate}` for the rate; further elements after "!".
    #[serde(default)]
    pub settings: String,
    /// Caps asked of it; empty: any.
    #[serde(default)]
    pub output: String,
    pub bitrate_property: String,
    /// 1 for bit/s, 1000 for kbit/s.
    pub bitrate_unit: u32,
    /// It takes pictures of another size while it runs, and begins anew with a key frame.
    #[serde(default)]
    pub resizes: bool,
}

impl EncoderChoice {
    pub fn codec(&self) -> Codec {
        if self.codec == "h264" { Codec::H264 } else { Codec::Vp8 }
    }

    /// VP8 in software: the last resort, and the preview.
    pub fn vp8() -> Self {
        Self {
            element: "vp8enc".into(),
            codec: "vp8".into(),
            settings: "deadline=1 cpu-used=-8 threads=1 lag-in-frames=0 end-usage=cbr error-resilient=0 \
                       keyframe-max-dist=300 buffer-size=1000 buffer-initial-size=500 buffer-optimal-size=600 \
                       undershoot=95 min-quantizer=4 max-quantizer=56 static-threshold=1 max-intra-bitrate=600 \
                       timebase=1/90000"
                .into(),
            output: String::new(),
            bitrate_property: "target-bitrate".into(),
            bitrate_unit: 1,
            resizes: true,
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        // A test reads the same text; it cannot change after the build.
        Self::read("", "any-linux.toml").expect("the profile that is built in is valid")
    }
}

impl Default for CameraModes {
    fn default() -> Self {
        Profile::default().camera
    }
}

/// What may stand behind a key.
enum Kind {
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Letters, digits, `-` and `_`: a name of GStreamer; the flag: it may be empty.
    Name(bool),
    Number(i64, i64),
    /// One of these numbers.
    Unit(&'static [i64]),
    Flag,
}

/// Every key there is, with its section; "" is the top.
const KEYS: &[(&str, &str, Kind)] = &[
    ("", "name", Kind::Text),
    ("camera", "format", Kind::Word(&["", "MJPG", "YUYV"])),
    ("camera", "width", Kind::Number(160, 4_096)),
    ("camera", "height", Kind::Number(120, 4_096)),
    ("camera", "fps", Kind::Number(1, 60)),
    ("encoder", "element", Kind::Name(false)),
    ("encoder", "codec", Kind::Word(&["h264", "vp8"])),
    ("encoder", "settings", Kind::Text),
    ("encoder", "output", Kind::Text),
    ("encoder", "bitrate_property", Kind::Name(true)),
    ("encoder", "bitrate_unit", Kind::Unit(&[1, 1_000])),
    ("encoder", "resizes", Kind::Flag),
];
/// Keys that an `[[encoder]]` must have: there is no sensible value for them.
const NEEDED: &[&str] = &["element", "codec", "bitrate_property", "bitrate_unit"];

impl Profile {
    /// Reads a profile; an empty name is the default one.
    pub fn load(file: &str) -> Result<Self, GlassError> {
        if file.is_empty() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(file).map_err(|e| GlassError::file(Path::new(file), e))?;
        Self::read(&text, file)
    }

    /// A profile from the text of a file. `place`: how errors name it.
    pub fn read(text: &str, place: &str) -> Result<Self, GlassError> {
        let broken = |e: toml::de::Error| wrong(place, "file", "", e.message());
        let given: Table = toml::from_str(text).map_err(broken)?;
        check(&given, place)?;
        let mut whole: Table = toml::from_str(ANY_LINUX).map_err(broken)?;
        for (key, value) in given {
            match (whole.get_mut(&key), value) {
                (Some(Value::Table(known)), Value::Table(given)) => known.extend(given),
                (_, value) => {
                    whole.insert(key, value);
                }
            }
        }
        Value::Table(whole).try_into().map_err(broken)
    }
}

fn check(given: &Table, place: &str) -> Result<(), GlassError> {
    check_section("", given, place)?;
    match given.get("camera") {
        Some(Value::Table(camera)) => check_section("camera", camera, place)?,
        Some(other) => return Err(wrong(place, "camera", &shown(other), "it is not a section; write [camera]")),
        None => {}
    }
    let no_list = |other: &Value| wrong(place, "encoder", &shown(other), "it is not a list; write [[encoder]]");
    let encoders = match given.get("encoder") {
        Some(Value::Array(list)) => list.as_slice(),
        Some(other) => return Err(no_list(other)),
        None => &[],
    };
    for (n, encoder) in encoders.iter().enumerate() {
        let encoder = encoder.as_table().ok_or_else(|| no_list(encoder))?;
        check_section("encoder", encoder, place)?;
        if let Some(missing) = NEEDED.iter().find(|k| !encoder.contains_key(**k)) {
            let why = format!("it is missing in the {}. [[encoder]]", n + 1);
            return Err(wrong(place, &full("encoder", missing), "", &why));
        }
        let text = |key: &str| encoder.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("bitrate_property").is_empty() && !text("settings").contains("{bitrate}") {
            let why = "the bit rate is set nowhere. Name the property, or write {bitrate} in settings";
            return Err(wrong(place, &full("encoder", "bitrate_property"), "", why));
        }
    }
    Ok(())
}

fn check_section(section: &str, given: &Table, place: &str) -> Result<(), GlassError> {
    for (key, value) in given {
        let deeper = section.is_empty() && ["camera", "encoder"].contains(&key.as_str());
        if deeper {
            continue;
        }
        let bad = |why: &str| Err(wrong(place, &full(section, key), &shown(value), why));
        let Some((.., kind)) = KEYS.iter().find(|(s, k, _)| *s == section && k == key) else {
            let sections: &[&str] = if section.is_empty() { &["camera", "encoder"] } else { &[] };
            let known = KEYS.iter().filter(|k| k.0 == section).map(|k| k.1).chain(sections.iter().copied());
            let near = nearest(key, known);
            return bad(
                &near.map_or("there is no such key".into(), |n| format!("there is no such key; is `{n}` meant?"))
            );
        };
        match (kind, value) {
            (Kind::Text, Value::String(_)) => {}
            (Kind::Text, _) => return bad("it is not text in quotes"),
            (Kind::Word(words), value) => {
                if !value.as_str().is_some_and(|v| words.contains(&v)) {
                    let words: Vec<String> = words.iter().map(|w| format!("\"{w}\"")).collect();
                    return bad(&format!("it is none of {}", words.join(", ")));
                }
            }
            (Kind::Name(empty), value) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
                if !value.as_str().is_some_and(|v| v.chars().all(plain) && (*empty || !v.is_empty())) {
                    return bad("it is not one name of GStreamer, in quotes; more belongs into settings");
                }
            }
            (Kind::Number(least, most), value) => {
                if !value.as_integer().is_some_and(|v| (*least..=*most).contains(&v)) {
                    return bad(&format!("it is not a number from {least} to {most}"));
                }
            }
            (Kind::Flag, Value::Boolean(_)) => {}
            (Kind::Flag, _) => return bad("it is neither `true` nor `false`"),
            (Kind::Unit(units), value) => {
                if !value.as_integer().is_some_and(|v| units.contains(&v)) {
                    return bad("it is neither 1 (bit/s) nor 1000 (kbit/s)");
                }
            }
        }
    }
    Ok(())
}

fn full(section: &str, key: &str) -> String {
    match section {
        "" => key.to_owned(),
        "encoder" => format!("[[encoder]] {key}"),
        _ => format!("[{section}] {key}"),
    }
}

fn shown(value: &Value) -> String {
    value.to_string()
}

fn wrong(place: &str, key: &str, value: &str, why: &str) -> GlassError {
    let value = if value.is_empty() { "\"\"" } else { value };
    GlassError::Setting {
        place: place.into(),
        key: key.into(),
        value: value.into(),
        why: why.trim().into(),
        remedy: REMEDY,
    }
}

/// The known key that is nearest, if it is a slip of the finger away.
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = known.map(|k| (distance(key, k), k)).min()?;
    (distance <= 1 + key.len() / 4).then_some(name)
}

/// Letters to put in, take out or change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../hardware/profiles")
    }

    #[test]
    fn every_profile_in_the_tree_is_readable_and_named_in_the_readme() {
        let readme = std::fs::read_to_string(folder().join("README.md")).expect("README");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder()).expect("profiles") {
            let path = entry.expect("entry").path();
            if path.extension().is_some_and(|e| e == "toml") {
                Profile::load(&path.display().to_string()).expect("readable");
                let name = path.file_name().expect("name").to_string_lossy();
                assert!(readme.contains(&format!("`{name}`")), "{name} is not in README.md");
                seen += 1;
            }
        }
        assert!(seen >= 4, "only {seen} profiles");
    }

    #[test]
    fn the_keys_of_the_structure_the_check_the_readme_and_the_annotated_file_are_the_same() {
        let mut built: Vec<(String, String)> = Vec::new();
        let whole = Table::try_from(Profile::default()).expect("a table");
        for (key, value) in &whole {
            let section = match value {
                Value::Table(t) => t.clone(),
                Value::Array(list) => list[0].as_table().expect("tables").clone(),
                _ => {
                    built.push((String::new(), key.clone()));
                    continue;
                }
            };
            built.extend(section.keys().map(|k| (key.clone(), k.clone())));
        }
        let mut checked: Vec<_> = KEYS.iter().map(|(s, k, _)| ((*s).to_owned(), (*k).to_owned())).collect();
        built.sort();
        checked.sort();
        assert_eq!(built, checked);
        let readme = std::fs::read_to_string(folder().join("README.md")).expect("README");
        let rows: Vec<&str> = readme.lines().filter(|l| l.starts_with("| `")).collect();
        assert_eq!(rows.len(), KEYS.len(), "one row a key");
        for (section, key, kind) in KEYS {
            let row = rows.iter().find(|r| r.starts_with(&format!("| `{}` |", full(section, key)))).expect(key);
            let limits: Vec<String> = match kind {
                Kind::Number(a, b) => vec![format!("{a} to {b}")],
                Kind::Word(words) => words.iter().map(|w| format!("`\"{w}\"`")).collect(),
                Kind::Unit(units) => units.iter().map(|u| format!("`{u}`")).collect(),
                Kind::Flag => ["`true`", "`false`"].map(String::from).to_vec(),
                Kind::Text | Kind::Name(_) => vec![],
            };
            assert!(limits.iter().all(|l| row.contains(l)), "{key}: {limits:?} in {row}");
            let lines: Vec<&str> = ANY_LINUX.lines().collect();
            let at = lines.iter().position(|l| l.starts_with(&format!("{key} = "))).expect(key);
            let explained = lines[..at].iter().rev().take_while(|l| !l.is_empty()).any(|l| l.starts_with('#'));
            assert!(explained, "{key} has no comment in any-linux.toml");
        }
    }

    #[test]
    fn wrong_values_name_file_key_value_and_remedy() {
        let encoder = "[[encoder]]\nelement = \"x264enc\"\ncodec = \"h264\"\nbitrate_property = \"bitrate\"\nbitrate_unit = 1000\n";
        Profile::read(encoder, "p.toml").expect("a short encoder is valid");
        let with = |from: &str, to: &str| encoder.replace(from, to);
        for (text, parts) in [
            ("[camera]\nwidth = 99\n".to_owned(), ["[camera] width", "99", "160 to 4096"]),
            ("[camera]\nheight = \"720\"\n".into(), ["[camera] height", "\"720\"", "120 to 4096"]),
            ("[camera]\nfps = 0\n".into(), ["[camera] fps", "= 0", "1 to 60"]),
            ("[camera]\nformat = \"mjpg\"\n".into(), ["[camera] format", "\"mjpg\"", "\"MJPG\""]),
            ("[camera]\nwidht = 640\n".into(), ["[camera] widht", "640", "is `width` meant"]),
            ("camera = 3\n".into(), ["camera", "3", "[camera]"]),
            ("encoders = []\n".into(), ["encoders", "[]", "is `encoder` meant"]),
            ("encoder = 3\n".into(), ["encoder", "3", "[[encoder]]"]),
            ("encoder = [3]\n".into(), ["encoder", "3", "[[encoder]]"]),
            ("name = 3\n".into(), ["name", "3", "not text"]),
            ("colour = 1\n".into(), ["colour", "1", "no such key."]),
            (with("\"h264\"", "\"hevc\""), ["[[encoder]] codec", "\"hevc\"", "\"vp8\""]),
            (with("1000", "8"), ["[[encoder]] bitrate_unit", "8", "kbit/s"]),
            (with("x264enc", "a ! b"), ["[[encoder]] element", "\"a ! b\"", "settings"]),
            (with("\"bitrate\"", "\"\""), ["[[encoder]] bitrate_property", "\"\"", "{bitrate}"]),
            (with("codec = \"h264\"\n", ""), ["[[encoder]] codec", "missing", "1. [[encoder]]"]),
            (with("codec", "kodec"), ["[[encoder]] kodec", "\"h264\"", "is `codec` meant"]),
        ] {
            let error = Profile::read(&text, "p.toml").expect_err(&text).to_string();
            assert!(error.starts_with("p.toml: ") && error.contains("README.md"), "{error}");
            assert!(parts.iter().all(|p| error.contains(p)), "{parts:?} in {error}");
        }
        let error = Profile::read("[camera\n", "p.toml").expect_err("no TOML").to_string();
        assert!(error.starts_with("p.toml: file"), "{error}");
    }

    #[test]
    fn what_is_left_out_is_as_on_any_linux_and_a_list_of_encoders_replaces_the_whole() {
        let whole = Profile::default();
        assert_eq!(whole.encoder.len(), 4);
        let small = Profile::read("[camera]\nwidth = 640\n", "p").expect("valid");
        assert_eq!((small.camera.width, small.camera.height, small.encoder), (640, 720, whole.encoder));
        assert!(Profile::read("encoder = []\n", "p").expect("valid").encoder.is_empty());
    }

    #[test]
    fn a_slip_of_the_finger_is_known_and_another_word_is_not() {
        assert_eq!((distance("widht", "width"), distance("", "ab"), distance("abc", "abc")), (2, 2, 0));
        assert_eq!(nearest("bitrate_units", ["bitrate_unit", "codec"].into_iter()), Some("bitrate_unit"));
        assert_eq!(nearest("torch", ["width", "codec"].into_iter()), None);
    }
}
