//! Where drawn displays go: files, the wear page, devices (`panel`).
//!
//! Owns: the seam, and the thread that draws when something has changed. Never: decides what is shown.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use serde_json::json;

use super::{Drawn, Scene, canvas::Canvas, draw};
use crate::{capture::yuv::Rgba, clock::Clock, core::view::Screen, error::GlassError};

/// Pictures kept in a folder of `png:`; older ones are deleted, their lines stay.
const KEPT: u64 = 400;

/// One display.
pub trait Display: Send {
    /// Shows a drawing at once. Called when it differs from the last one.
    fn present(&mut self, drawn: &Drawn, scene: &Scene) -> Result<(), GlassError>;
}

/// The thread that draws.
pub struct Hud {
    shared: Arc<(Mutex<Slot>, Condvar)>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Slot {
    /// Only the newest scene matters: a newer one replaces it.
    scene: Option<Scene>,
    stop: bool,
}

/// Told after each presentation.
#[derive(Debug, Clone)]
pub struct Presented {
    pub instruction: Option<lotse_protocol::id::EventId>,
    pub took_us: u64,
}

impl Hud {
    /// `presented` is called on the drawing thread.
    pub fn start(mut displays: Vec<Box<dyn Display>>, presented: impl Fn(Presented) + Send + 'static) -> Self {
        let shared: Arc<(Mutex<Slot>, Condvar)> = Arc::default();
        let slot = shared.clone();
        let thread = thread::spawn(move || {
            let mut canvas = Canvas::default();
            let mut last: Option<Rgba> = None;
            while let Some(scene) = next(&slot) {
                let started = std::time::Instant::now();
                let drawn = draw(&mut canvas, &scene);
                if last.as_ref() == Some(&drawn.pixels) {
                    continue;
                }
                let mut is_shown = false;
                for display in &mut displays {
                    match display.present(&drawn, &scene) {
                        Ok(()) => is_shown = true,
                        Err(e) => tracing::warn!("{e}"),
                    }
                }
                // A receipt says "shown": not when nobody could see it. The next scene comes within a second and tries again.
                if !is_shown {
                    continue;
                }
                let took_us = started.elapsed().as_micros() as u64;
                last = Some(drawn.pixels);
                presented(Presented { instruction: shown(&scene), took_us });
            }
        });
        Self { shared, thread: Some(thread) }
    }

    pub fn show(&self, scene: Scene) {
        let (slot, wake) = &*self.shared;
        // A poisoned lock means the drawing thread panicked; there is nothing to show then.
        if let Ok(mut slot) = slot.lock() {
            slot.scene = Some(scene);
            wake.notify_one();
        }
    }
}

impl Drop for Hud {
    fn drop(&mut self) {
        if let Ok(mut slot) = self.shared.0.lock() {
            slot.stop = true;
        }
        self.shared.1.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn next(shared: &(Mutex<Slot>, Condvar)) -> Option<Scene> {
    let mut slot = shared.0.lock().ok()?;
    loop {
        if slot.stop {
            return None;
        }
        if let Some(scene) = slot.scene.take() {
            return Some(scene);
        }
        slot = shared.1.wait(slot).ok()?;
    }
}

fn shown(scene: &Scene) -> Option<lotse_protocol::id::EventId> {
    match &scene.view.screen {
        Screen::Instruction(s) => Some(s.id),
        _ => None,
    }
}

/// `png:FOLDER`: a picture and a line in hud.jsonl on every change.
pub struct PngFolder {
    dir: PathBuf,
    lines: std::fs::File,
    count: u64,
    clock: Clock,
    last: Option<(String, Vec<String>)>,
}

impl PngFolder {
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, GlassError> {
        let broken =
            |e: std::io::Error| GlassError::Display { what: format!("png:{}", dir.display()), why: e.to_string() };
        std::fs::create_dir_all(dir).map_err(broken)?;
        let lines = std::fs::File::options().create(true).append(true).open(dir.join("hud.jsonl")).map_err(broken)?;
        let taken = std::fs::read_dir(dir).map_err(broken)?.flatten().filter_map(|e| number(&e.path())).max();
        Ok(Self { dir: dir.to_owned(), lines, count: taken.map_or(0, |n| n + 1), clock, last: None })
    }
}

impl Display for PngFolder {
    fn present(&mut self, drawn: &Drawn, scene: &Scene) -> Result<(), GlassError> {
        // The time first: writing the file is not part of the way to the eye.
        let at_us = self.clock.now_us() + self.clock.offset_us();
        let name = scene.view.screen.name();
        // A running clock alone is no change.
        let words: Vec<String> =
            drawn.texts.iter().map(|t| t.chars().filter(|c| !c.is_ascii_digit()).collect()).collect();
        let key = Some((format!("{name} {:?}", shown(scene)), words));
        if self.last == key {
            return Ok(());
        }
        let file = format!("{:06}-{name}.png", self.count);
        let origin = match &scene.view.screen {
            Screen::Instruction(s) => serde_json::to_value(s.picture).unwrap_or_default(),
            _ => serde_json::Value::Null,
        };
        let pointer = match &scene.view.screen {
            Screen::Pointing { at, .. } => serde_json::to_value(at).unwrap_or_default(),
            _ => serde_json::Value::Null,
        };
        let line = json!({
            "at_us": at_us,
            "at_ms": at_us / 1_000,
            "screen": name,
            "instruction": shown(scene),
            "picture": origin,
            "pointer": pointer,
            "texts": drawn.texts,
            "file": file,
        });
        // The picture before its line: whoever reads the line finds the picture.
        save(&drawn.pixels, &self.dir.join(&file))?;
        writeln!(self.lines, "{line}").map_err(|e| GlassError::file(&self.dir, e))?;
        if let Some(old) = self.count.checked_sub(KEPT) {
            remove(&self.dir, old);
        }
        self.count += 1;
        self.last = key;
        Ok(())
    }
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('-').next()?.parse().ok()
}

fn remove(dir: &Path, wanted: u64) {
    let old = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    for path in old.filter(|p| number(p) == Some(wanted)) {
        // One picture too many does no harm.
        let _ = std::fs::remove_file(path);
    }
}

/// Writes a PNG.
pub fn save(picture: &Rgba, path: &Path) -> Result<(), GlassError> {
    std::fs::write(path, png(picture)?).map_err(|e| GlassError::file(path, e))
}

/// PNG bytes, packed quickly rather than small.
pub fn png(picture: &Rgba) -> Result<Vec<u8>, GlassError> {
    use image::{ExtendedColorType, ImageEncoder as _, codecs::png};
    let mut out = Vec::new();
    png::PngEncoder::new_with_quality(&mut out, png::CompressionType::Fast, png::FilterType::Up)
        .write_image(&picture.pixels, picture.width, picture.height, ExtendedColorType::Rgba8)
        .map_err(|e| GlassError::Ours(e.to_string()))?;
    Ok(out)
}

/// JPEG bytes, for looking at only.
pub fn jpeg(picture: &Rgba) -> Result<Vec<u8>, GlassError> {
    let rgb: Vec<u8> = picture.pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut out = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 70)
        .encode(&rgb, picture.width, picture.height, image::ExtendedColorType::Rgb8)
        .map_err(|e| GlassError::Ours(e.to_string()))?;
    Ok(out)
}
