//! A display that is a device: it may be missing, go away and come back, and must never hold up the others.
//!
//! Owns: a thread for each, which opens it, shows the newest picture, answers what the device asks, and after an error says
//! why and opens it again. Never: ends the program, or queues pictures. Elsewhere: the devices (`wayland`, `drm`).

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Drawn, Scene, display::Display, drm::Drm, wayland::Wayland};
use crate::{capture::yuv::Rgba, error::GlassError};

/// Between two attempts to open a device that is not there.
const AGAIN: Duration = Duration::from_secs(2);
/// A device is asked so often whether it is still there.
const LOOK: Duration = Duration::from_secs(2);

/// A device that shows pictures.
pub trait Panel: Sized {
    /// `place`: what stands behind the colon of the setting. The error is a sentence with its remedy.
    fn open(place: &str) -> Result<Self, String>;
    /// Width and height, pixels.
    fn size(&self) -> (u32, u32);
    fn present(&mut self, picture: &Rgba) -> Result<(), String>;
    /// Serves the device until `wake` is readable or the time is over. `true`: it wants the picture again.
    fn serve(&mut self, wake: BorrowedFd<'_>, until: Duration) -> Result<bool, String>;
}

/// Displays that do not work, by their setting, and why.
pub type Troubles = Arc<Mutex<BTreeMap<String, String>>>;

/// A panel and its thread.
pub struct PanelDisplay {
    newest: Arc<Mutex<Option<Arc<Rgba>>>>,
    wake: Option<UnixStream>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Whether a setting names a panel.
pub fn is_panel(setting: &str) -> bool {
    ["wayland", "drm"].contains(&split(setting).0)
}

/// Opens and closes the panel of a setting; its size. For the doctor.
pub fn look_at(setting: &str) -> Result<(u32, u32), String> {
    match split(setting) {
        ("wayland", place) => Wayland::open(place).map(|p| p.size()),
        ("drm", place) => Drm::open(place).map(|p| p.size()),
        _ => Err("is no display of this program".into()),
    }
}

fn split(setting: &str) -> (&str, &str) {
    setting.split_once(':').unwrap_or((setting, ""))
}

impl PanelDisplay {
    /// Starts the thread of a setting that [`is_panel`].
    pub fn start(setting: &str, troubles: Troubles) -> Result<Self, GlassError> {
        let broken = |e: std::io::Error| GlassError::Display { what: setting.into(), why: e.to_string() };
        let (wake, inbox) = UnixStream::pair().map_err(broken)?;
        // A wake that finds the pipe full has been given already.
        wake.set_nonblocking(true).and_then(|()| inbox.set_nonblocking(true)).map_err(broken)?;
        let newest: Arc<Mutex<Option<Arc<Rgba>>>> = Arc::default();
        let of = Thread { setting: setting.to_owned(), newest: newest.clone(), inbox, troubles };
        let thread = if split(setting).0 == "drm" {
            thread::spawn(move || of.run::<Drm>())
        } else {
            thread::spawn(move || of.run::<Wayland>())
        };
        Ok(Self { newest, wake: Some(wake), thread: Some(thread) })
    }

    /// Shows a picture as soon as the device can; a newer one replaces one that waits.
    pub fn show(&self, picture: Arc<Rgba>) {
        if let Ok(mut newest) = self.newest.lock() {
            *newest = Some(picture);
        }
        if let Some(mut wake) = self.wake.as_ref() {
            let _ = wake.write(&[1]);
        }
    }
}

impl Display for PanelDisplay {
    fn present(&mut self, drawn: &Drawn, _: &Scene) -> Result<(), GlassError> {
        self.show(Arc::new(drawn.pixels.clone()));
        Ok(())
    }
}

impl Drop for PanelDisplay {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Thread {
    setting: String,
    newest: Arc<Mutex<Option<Arc<Rgba>>>>,
    inbox: UnixStream,
    troubles: Troubles,
}

/// The program ends.
struct Ended;

impl Thread {
    fn run<P: Panel>(self) {
        let place = split(&self.setting).1;
        loop {
            let why = match P::open(place) {
                Ok(panel) => {
                    self.tell(None);
                    match self.show(panel) {
                        Ok(Ended) => return,
                        Err(why) => why,
                    }
                }
                Err(why) => why,
            };
            self.tell(Some(why));
            if self.pause().is_err() {
                return;
            }
        }
    }

    fn show<P: Panel>(&self, mut panel: P) -> Result<Ended, String> {
        tracing::info!("display {}: {}x{}", self.setting, panel.size().0, panel.size().1);
        let mut shown: Option<Arc<Rgba>> = None;
        loop {
            let newest = self.newest.lock().ok().and_then(|n| n.clone());
            if let Some(newest) = newest
                && shown.as_ref().is_none_or(|s| !Arc::ptr_eq(s, &newest))
            {
                panel.present(&newest)?;
                shown = Some(newest);
            }
            if panel.serve(self.inbox.as_fd(), LOOK)? {
                shown = None;
            }
            if self.drain().is_err() {
                return Ok(Ended);
            }
        }
    }

    /// Told once a reason, and once when it is over.
    fn tell(&self, why: Option<String>) {
        let Ok(mut troubles) = self.troubles.lock() else { return };
        let before = troubles.get(&self.setting);
        if before == why.as_ref() {
            return;
        }
        match why {
            Some(why) => {
                tracing::warn!("display {}: {why} Trying again every {} s.", self.setting, AGAIN.as_secs());
                troubles.insert(self.setting.clone(), why);
            }
            None => {
                tracing::info!("display {} works again", self.setting);
                troubles.remove(&self.setting);
            }
        }
    }

    fn pause(&self) -> Result<(), Ended> {
        let end = Instant::now() + AGAIN;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
            wait(&mut [PollFd::new(&self.inbox, PollFlags::IN)], left);
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&self) -> Result<(), Ended> {
        let mut rest = [0; 64];
        loop {
            match (&self.inbox).read(&mut rest) {
                Ok(0) => return Err(Ended),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Waits until one of these is ready; whoever asked looks which.
pub(super) fn wait(fds: &mut [PollFd<'_>], limit: Duration) {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    // Interrupted: the caller looks and waits again.
    let _ = poll(fds, Some(&limit));
}
