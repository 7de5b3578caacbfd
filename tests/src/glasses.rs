//! A pair of simulated glasses: the real program, its inputs, and what it shows and lets hear.
//!
//! Owns: its settings and folder. Words go in by the input socket, as from a button; what comes out is read from
//! `hud.jsonl` and the speaker's file. Never: reaches into the program.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use crate::{
    World,
    faults::Faults,
    network::Link,
    program::{Program, root},
    world::free_port,
};

/// The glasses before their first start.
pub struct GlassesSettings {
    program: Program,
    wear: String,
    folder: PathBuf,
}

impl GlassesSettings {
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let folder = world.path(name);
        std::fs::create_dir_all(folder.join("hud")).unwrap();
        let path = |part: &str| folder.join(part).display().to_string();
        let wear = format!("127.0.0.1:{}", free_port());
        let clip = root().join("tests/footage/workshop.mp4");
        let program = Program::new(
            name,
            "lotse-glass",
            &["run"],
            &[
                ("LOTSE_SERVER_URL", world.url.clone()),
                ("LOTSE_SERVER_PAIRING_CODE", world.codes.get(name).cloned().unwrap_or_default()),
                ("LOTSE_DATA_DIR", path("data")),
                ("LOTSE_CAMERA_SOURCE", format!("file:{}", clip.display())),
                ("LOTSE_SOUND_MICROPHONE", "file".into()),
                ("LOTSE_SOUND_SPEAKER", format!("wav:{}", path("speaker.wav"))),
                ("LOTSE_HUD_DISPLAYS", format!("png:{},web:{wear}", path("hud"))),
                ("LOTSE_HUD_LANGUAGE", "en".into()),
                ("LOTSE_INPUT_SOURCES", format!("socket:{}", path("input.sock"))),
                ("LOTSE_DEVICE_NAME", name.into()),
                ("LOTSE_CALL_ON_START", "true".into()),
                ("LOTSE_CALL_TITLE", "Mechanical seal leaks".into()),
                ("LOTSE_CALL_ASSET", "p-204".into()),
            ],
            &folder,
        );
        Self { program, wear: format!("http://{wear}"), folder }
    }

    /// Any setting by its environment name.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.program.set(key, value);
        self
    }

    /// Changes of files below these folders can be made to fail.
    pub fn with_faults(mut self, control: &std::path::Path, folders: &[PathBuf]) -> (Self, Faults) {
        let faults = Faults::under(&mut self.program, control, folders);
        (self, faults)
    }

    /// Everything of these glasses goes through this link.
    pub fn behind(self, link: &Link) -> Self {
        let url = link.url.clone();
        self.with("LOTSE_SERVER_URL", &url)
    }

    pub async fn start(self) -> Glasses {
        let mut glasses = self.unstarted();
        glasses.program.start().await;
        glasses
    }

    pub fn unstarted(self) -> Glasses {
        Glasses { program: self.program, wear: self.wear, folder: self.folder }
    }

    /// For settings that the program should refuse: exit code, stdout, stderr.
    pub async fn refused(self) -> (Option<i32>, String, String) {
        self.program.run_to_end().await
    }
}

/// Running glasses.
pub struct Glasses {
    pub program: Program,
    pub wear: String,
    pub folder: PathBuf,
}

impl Glasses {
    /// What the display shows now: the newest line of `hud.jsonl`.
    pub fn state(&self) -> Value {
        self.shown().pop().unwrap_or_default()
    }

    /// Waits for a screen by its name.
    pub async fn shows(&self, screen: &str) -> Value {
        self.shows_within(screen, Duration::from_secs(60)).await
    }

    pub async fn shows_within(&self, screen: &str, within: Duration) -> Value {
        let end = tokio::time::Instant::now() + within;
        loop {
            let state = self.state();
            if state["screen"] == screen {
                return state;
            }
            assert!(tokio::time::Instant::now() < end, "the glasses do not show `{screen}` within {within:?}: {state}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The picture on the display at a line of [`Glasses::shown`].
    pub fn picture(&self, line: &Value) -> image::DynamicImage {
        image::open(self.folder.join("hud").join(line["file"].as_str().unwrap())).unwrap()
    }

    /// A word on the input socket; panics when it is not taken.
    pub async fn say(&self, word: &str) {
        let reply = self.try_say(word).await;
        assert!(reply.starts_with("ok"), "{word}: {reply}");
    }

    pub async fn try_say(&self, word: &str) -> String {
        let mut socket = UnixStream::connect(self.folder.join("input.sock")).await.unwrap();
        socket.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(socket);
        tokio::time::timeout(Duration::from_secs(5), reader.read_line(&mut line))
            .await
            .expect("an answer to a word")
            .unwrap();
        line.trim().to_owned()
    }

    /// Everything the display has shown so far.
    pub fn shown(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("hud/hud.jsonl")).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// What came out of the speaker so far: mono, 48 kHz, -1 to 1.
    pub fn heard(&self) -> Vec<f32> {
        let bytes = std::fs::read(self.folder.join("speaker.wav")).unwrap_or_default();
        let Some(at) = bytes.windows(4).position(|w| w == b"data") else {
            return vec![];
        };
        let samples = bytes.get(at + 8..).unwrap_or_default().chunks_exact(2);
        samples.map(|s| f32::from(i16::from_le_bytes([s[0], s[1]])) / 32_768.0).collect()
    }
}

/// How much of a sound is a tone of this pitch: 1 for a pure tone, near 0 for silence, speech or noise.
///
/// Goertzel's algorithm over blocks of 100 ms; the best block counts.
pub fn tone(samples: &[f32], pitch: f32) -> f32 {
    const BLOCK: usize = 4_800;
    let coefficient = 2.0 * (std::f32::consts::TAU * pitch / 48_000.0).cos();
    let of_block = |block: &[f32]| {
        let (mut a, mut b, mut energy) = (0.0f32, 0.0f32, 0.0f32);
        for x in block {
            let c = x + coefficient * a - b;
            (b, a) = (a, c);
            energy += x * x;
        }
        // Quieter than 1/1000 of full scale is silence.
        if energy < BLOCK as f32 * 1e-6 {
            return 0.0;
        }
        let power = a * a + b * b - coefficient * a * b;
        power / (energy * block.len() as f32 / 2.0)
    };
    samples.chunks_exact(BLOCK).map(of_block).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::tone;

    #[test]
    fn a_tone_is_told_from_another_and_from_silence() {
        let wave = |hz: f32| (0..48_000).map(move |i| 0.3 * (i as f32 * hz * std::f32::consts::TAU / 48_000.0).sin());
        let a: Vec<f32> = wave(440.0).collect();
        assert!(tone(&a, 440.0) > 0.95);
        assert!(tone(&a, 1_000.0) < 0.05);
        assert!(tone(&vec![0.0; 48_000], 440.0) < 0.05);
        let mixed: Vec<f32> = wave(440.0).zip(wave(1_300.0)).map(|(a, b)| a + b).collect();
        assert!((0.3..0.7).contains(&tone(&mixed, 440.0)));
    }
}
