//! What one kind of glasses has: camera modes, encoders, display.
//!
//! Owns: the shape of the files in `hardware/profiles`. Never: product logic.

use std::path::Path;

use serde::Deserialize;

use crate::error::GlassError;

/// A device profile. Missing parts have the values of any Linux with software encoding.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    pub camera: CameraModes,
    /// Tried in order; the first whose element exists is used. The last resort is always `vp8enc`.
    pub encoder: Vec<EncoderChoice>,
}

/// What is asked of a camera.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CameraModes {
    /// "MJPG" or "YUYV"; empty: let the driver choose.
    pub format: String,
    pub width: u16,
    pub height: u16,
    pub fps: u16,
}

/// One encoder: a GStreamer element, how to set it, and the name and unit of its bit rate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderChoice {
    /// "x264enc", "openh264enc", "v4l2h264enc", …
    pub element: String,
    /// "h264" or "vp8".
    pub codec: String,
    /// Properties as on a gst-launch line.
    #[serde(default)]
    pub settings: String,
    pub bitrate_property: String,
    /// 1 for bit/s, 1000 for kbit/s.
    pub bitrate_unit: u32,
}

impl Default for Profile {
    fn default() -> Self {
        Self { name: "any Linux".into(), camera: CameraModes::default(), encoder: Vec::new() }
    }
}

impl Default for CameraModes {
    fn default() -> Self {
        Self { format: String::new(), width: 1280, height: 720, fps: 30 }
    }
}

impl Profile {
    /// Reads a profile; an empty name is the default one.
    pub fn load(file: &str) -> Result<Self, GlassError> {
        if file.is_empty() {
            return Ok(Self::default());
        }
        let path = Path::new(file);
        let text = std::fs::read_to_string(path).map_err(|e| GlassError::file(path, e))?;
        let profile: Self = toml::from_str(&text).map_err(|e| GlassError::Setting {
            place: file.into(),
            key: "profile".into(),
            value: String::new(),
            why: e.message().trim().into(),
            remedy: "hardware/profiles/README.md explains every key.",
        })?;
        if let Some(e) =
            profile.encoder.iter().find(|e| !["h264", "vp8"].contains(&e.codec.as_str()) || e.bitrate_unit == 0)
        {
            return Err(GlassError::Setting {
                place: file.into(),
                key: "[[encoder]] codec, bitrate_unit".into(),
                value: format!("{}, {}", e.codec, e.bitrate_unit),
                why: "codec is h264 or vp8, bitrate_unit is 1 or 1000".into(),
                remedy: "hardware/profiles/README.md explains every key.",
            });
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_in_the_tree_is_readable() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hardware/profiles");
        let mut seen = 0;
        for entry in std::fs::read_dir(dir).expect("profiles") {
            let path = entry.expect("entry").path();
            if path.extension().is_some_and(|e| e == "toml") {
                Profile::load(&path.display().to_string()).expect("readable");
                seen += 1;
            }
        }
        assert!(seen >= 2, "only {seen} profiles");
    }
}
