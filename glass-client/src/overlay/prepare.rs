//! The worker that makes marked pictures: decode the frame, or take the Snapshot, then draw.
//!
//! Owns: one thread with a warm decoder and a warm canvas. Never: the network (what it needs is handed to it).

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use lotse_payload::{Instruction, receipt::PictureOrigin};
use lotse_protocol::id::EventId;

use super::marks;
use crate::{
    capture::{decode::Decoder, yuv::Rgba},
    hud::{Marked, PICTURE_HEIGHT, PICTURE_WIDTH, canvas::Canvas},
    ring::EncodedFrame,
};

/// Jobs waiting: an expert sends a handful at most. A full queue drops the newest; asking again (REPEAT) makes it.
const JOBS: usize = 16;
/// A Snapshot above this many pixels is not decoded: cameras give less, and a lossless one is held seven bytes a pixel meanwhile.
const MAX_PIXELS: u64 = 4096 * 2304;

/// What to make.
pub struct Job {
    pub id: EventId,
    pub instruction: Instruction,
    pub from: From,
}

/// Where the picture may come from.
pub enum From {
    /// Key frame to the frame asked for.
    Ring(Vec<EncodedFrame>),
    /// The expert's picture: PNG, JPEG or WebP.
    Snapshot(Vec<u8>),
    Nothing,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Made {
    pub id: EventId,
    pub origin: PictureOrigin,
    pub marked: Marked,
    /// Decoding and drawing, µs.
    pub took_us: u64,
    /// Frames decoded.
    pub frames: usize,
    /// Decoding a frame of the ring failed: the Snapshot may be tried.
    pub ring_failed: bool,
}

/// Pictures decoded ahead that are kept, 0.5 MB each: several experts, each on a picture or two.
const KEPT: usize = 8;

enum Work {
    Job(Job),
    /// Somebody draws on the last of these frames.
    Ahead(Vec<EncodedFrame>),
}

/// Decoded pictures at display size by RTP time, oldest first.
type Cache = VecDeque<(u64, Rgba)>;

/// A handle to the worker; it ends when the handle is dropped.
pub struct Preparer {
    jobs: mpsc::SyncSender<Work>,
}

impl Preparer {
    /// `done` is called on the worker's thread.
    pub fn start(done: impl Fn(Made) + Send + 'static) -> Self {
        let (jobs, queue) = mpsc::sync_channel::<Work>(JOBS);
        thread::spawn(move || {
            let mut decoder = Decoder::default();
            let mut canvas = Canvas::new(PICTURE_WIDTH, PICTURE_HEIGHT);
            if let Err(e) = decoder.warm_up() {
                tracing::warn!("{e}");
            }
            let mut cache = Cache::new();
            while let Ok(work) = queue.recv() {
                match work {
                    Work::Job(job) => done(make(job, &mut decoder, &mut canvas, &cache)),
                    Work::Ahead(frames) => ahead(&frames, &mut decoder, &mut cache),
                }
            }
        });
        Self { jobs }
    }

    /// Queues a job; `false` if the queue is full.
    pub fn ask(&self, job: Job) -> bool {
        self.jobs.try_send(Work::Job(job)).is_ok()
    }

    /// Decodes the last of these frames ahead; no harm if the queue is full.
    pub fn ahead(&self, frames: Vec<EncodedFrame>) {
        let _ = self.jobs.try_send(Work::Ahead(frames));
    }
}

fn ahead(frames: &[EncodedFrame], decoder: &mut Decoder, cache: &mut Cache) {
    let Some(wanted) = frames.last().map(|f| f.rtp).filter(|rtp| cache.iter().all(|c| c.0 != *rtp)) else { return };
    match decoder.last_of(frames) {
        Ok(picture) => {
            if cache.len() == KEPT {
                cache.pop_front();
            }
            let small = picture.to_rgba(PICTURE_WIDTH as usize, PICTURE_HEIGHT as usize);
            cache.extend(small.map(|small| (wanted, small)));
        }
        Err(e) => tracing::warn!("{e}"),
    }
}

fn make(job: Job, decoder: &mut Decoder, canvas: &mut Canvas, cache: &Cache) -> Made {
    let started = Instant::now();
    let (mut origin, mut ring_failed, mut frames) = (PictureOrigin::None, false, 0);
    let picture = match &job.from {
        From::Ring(list) => {
            let known = list.last().and_then(|f| cache.iter().find(|c| c.0 == f.rtp)).map(|c| c.1.clone());
            let decoded = match known {
                Some(picture) => Ok(Some(picture)),
                None => {
                    frames = list.len();
                    decoder.last_of(list).map(|p| p.to_rgba(PICTURE_WIDTH as usize, PICTURE_HEIGHT as usize))
                }
            };
            match decoded {
                Ok(picture) => {
                    origin = PictureOrigin::Ring;
                    picture
                }
                Err(e) => {
                    tracing::warn!("{e}");
                    ring_failed = true;
                    None
                }
            }
        }
        From::Snapshot(bytes) => {
            let picture = open(bytes);
            if picture.is_some() {
                origin = PictureOrigin::Snapshot;
            }
            picture
        }
        From::Nothing => None,
    };
    let drawn = marks::draw_on(canvas, picture.as_ref(), &job.instruction, PICTURE_WIDTH, PICTURE_HEIGHT);
    Made {
        id: job.id,
        origin,
        marked: Marked { instruction: job.id, picture: Arc::new(drawn) },
        took_us: started.elapsed().as_micros() as u64,
        frames,
        ring_failed,
    }
}

/// A picture file as it came from an expert; anything odd is no picture.
pub fn open(bytes: &[u8]) -> Option<Rgba> {
    let reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().ok()?;
    let (w, h) = reader.into_dimensions().ok()?;
    if u64::from(w) * u64::from(h) > MAX_PIXELS || w == 0 || h == 0 {
        return None;
    }
    let picture = image::load_from_memory(bytes).ok()?.into_rgba8();
    let mut pixels = picture.into_raw();
    // The display has no transparency: see-through pixels are black ground.
    for p in pixels.chunks_exact_mut(4) {
        let a = u16::from(p[3]);
        for c in &mut p[..3] {
            *c = (u16::from(*c) * a / 255) as u8;
        }
        p[3] = 255;
    }
    Some(Rgba { width: w, height: h, pixels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_file_is_read_and_rubbish_is_not() {
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbaImage::from_pixel(8, 4, image::Rgba([9, 8, 7, 255]))
            .write_to(&mut png, image::ImageFormat::Png)
            .expect("png");
        let picture = open(png.get_ref()).expect("picture");
        assert_eq!((picture.width, picture.height, &picture.pixels[..4]), (8, 4, &[9, 8, 7, 255][..]));
        assert_eq!(open(b"RIFF\0\0\0\0WEBPVP8 "), None);
        assert_eq!(open(&[]), None);
    }
}
