//! A display without a compositor: dumb buffers of a graphics card, two of them, flipped.
//!
//! Owns: which connector and mode (plain functions, tested), what each refusal of the kernel means, and a thin part that talks to
//! the card. No card was present where this was written: that part has compiled and never run on a device.
//! Never: a GPU, planes, another connector than the one chosen. Elsewhere: when it is opened again (`panel`), scaling (`placing`).

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use drm::{
    Device,
    buffer::{Buffer as _, DrmFourcc},
    control::{
        ClipRect, Device as ControlDevice, Mode, ModeTypeFlags, PageFlipFlags, connector, crtc, dumbbuffer::DumbBuffer,
        framebuffer,
    },
};
use rustix::event::{PollFd, PollFlags};

use super::{
    HEIGHT, WIDTH,
    panel::{Panel, wait},
    placing,
};
use crate::capture::yuv::Rgba;

/// A flip takes one picture of the display; a driver that says nothing for so long is not waited for.
const FLIP: Duration = Duration::from_millis(100);

/// What a connector can do, as the choice needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// As the kernel names it: "HDMI-A-1", "DSI-1".
    pub name: String,
    pub connected: bool,
    /// Width, height, preferred by the display.
    pub modes: Vec<(u16, u16, bool)>,
}

/// Which connector, and which of its modes: indices. `wanted`: a name, or "" for the first that is connected.
pub fn choose(sockets: &[Socket], wanted: &str) -> Result<(usize, usize), String> {
    let names = || {
        let list: Vec<String> = sockets
            .iter()
            .map(|s| format!("{} ({})", s.name, if s.connected { "connected" } else { "nothing connected" }))
            .collect();
        if list.is_empty() { "none".into() } else { list.join(", ") }
    };
    let usable = |s: &Socket| s.connected && !s.modes.is_empty();
    let at = if wanted.is_empty() {
        sockets.iter().position(usable).ok_or_else(|| {
            format!("no display is connected. Plug it in; the connectors of this card are: {}.", names())
        })?
    } else {
        let at = sockets
            .iter()
            .position(|s| s.name == wanted)
            .ok_or_else(|| format!("there is no connector {wanted}. Those of this card are: {}.", names()))?;
        if !usable(&sockets[at]) {
            return Err(format!(
                "nothing is connected to {wanted}. Plug the display in; the connectors are: {}.",
                names()
            ));
        }
        at
    };
    // The display's own choice; else the one nearest to what is drawn; the first of equals.
    let far = |m: &(u16, u16, bool)| {
        let pixels = u32::from(m.0).abs_diff(WIDTH) + u32::from(m.1).abs_diff(HEIGHT);
        (!m.2, pixels)
    };
    let modes = &sockets[at].modes;
    let mode = (0..modes.len()).min_by_key(|&i| far(&modes[i])).unwrap_or(0);
    Ok((at, mode))
}

/// Card and connector of "", "/dev/dri/card0" or "/dev/dri/card0:HDMI-A-1". No card: the first of them.
pub fn parse(place: &str) -> (Option<PathBuf>, &str) {
    let (card, connector) = place.split_once(':').unwrap_or((place, ""));
    ((!card.is_empty()).then(|| card.into()), connector)
}

/// What a refusal means, and what to do.
pub fn refusal(card: &Path, doing: &str, e: &std::io::Error) -> String {
    let card = card.display();
    match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            format!("there is no card {card}. ls /dev/dri shows those there are; \"drm:/dev/dri/card1\" names one.")
        }
        Some(libc::EACCES) if doing == "open" => format!(
            "{card} may not be opened. Add this user to the group video (on some systems render): usermod -aG video USER, then log in again."
        ),
        Some(libc::EACCES | libc::EPERM | libc::EBUSY) => format!(
            "another program rules {card}. End the compositor or console program on it, or use \"wayland\" under that compositor."
        ),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTTY) if doing == "ask" => {
            format!("{card} drives no display. Name the card that does: \"drm:/dev/dri/card1\".")
        }
        _ => format!("{card} does not {doing}: {e}. dmesg says what its driver thinks of it."),
    }
}

struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device for Card {}
impl ControlDevice for Card {}

/// An open card with its mode set.
pub struct Drm {
    path: PathBuf,
    card: Card,
    connector: connector::Handle,
    crtc: crtc::Handle,
    mode: Mode,
    /// The one shown and the one drawn into.
    buffers: Vec<(DumbBuffer, framebuffer::Handle)>,
    shown: usize,
    set: bool,
    flips: bool,
    looked: Instant,
}

impl Panel for Drm {
    fn open(place: &str) -> Result<Self, String> {
        let (path, wanted) = parse(place);
        let path = path.unwrap_or_else(first_card);
        let no = |doing: &'static str| {
            let path = path.clone();
            move |e: std::io::Error| refusal(&path, doing, &e)
        };
        let card = Card(OpenOptions::new().read(true).write(true).open(&path).map_err(no("open"))?);
        let resources = card.resource_handles().map_err(no("ask"))?;
        let infos: Vec<connector::Info> =
            resources.connectors().iter().filter_map(|c| card.get_connector(*c, true).ok()).collect();
        let sockets: Vec<Socket> = infos.iter().map(socket).collect();
        let (at, mode) = choose(&sockets, wanted)?;
        let info = &infos[at];
        let mode = info.modes()[mode];
        let crtc = info
            .encoders()
            .iter()
            .filter_map(|e| card.get_encoder(*e).ok())
            .find_map(|e| resources.filter_crtcs(e.possible_crtcs()).first().copied())
            .ok_or_else(|| format!("{} has no free picture generator for {}.", path.display(), sockets[at].name))?;
        let (width, height) = mode.size();
        let mut drm = Self {
            connector: info.handle(),
            path: path.clone(),
            card,
            crtc,
            mode,
            buffers: Vec::new(),
            shown: 0,
            set: false,
            flips: true,
            looked: Instant::now(),
        };
        for _ in 0..2 {
            let size = (width.into(), height.into());
            let buffer = drm.card.create_dumb_buffer(size, DrmFourcc::Xrgb8888, 32).map_err(no("give memory"))?;
            let frame = drm.card.add_framebuffer(&buffer, 24, 32).map_err(no("give memory"))?;
            drm.buffers.push((buffer, frame));
        }
        Ok(drm)
    }

    fn size(&self) -> (u32, u32) {
        let (width, height) = self.mode.size();
        (width.into(), height.into())
    }

    fn present(&mut self, picture: &Rgba) -> Result<(), String> {
        let (size, next) = (self.size(), 1 - self.shown);
        let path = self.path.clone();
        let no = |e: std::io::Error| refusal(&path, "show", &e);
        let (buffer, frame) = &mut self.buffers[next];
        let (stride, frame) = (buffer.pitch() as usize, *frame);
        {
            let mut pixels = self.card.map_dumb_buffer(buffer).map_err(no)?;
            placing::fill(picture, size, stride, &mut pixels);
        }
        if !self.set {
            self.card.set_crtc(self.crtc, Some(frame), (0, 0), &[self.connector], Some(self.mode)).map_err(no)?;
            self.set = true;
        } else if !(self.flips && self.flip(frame)) {
            // Some drivers cannot flip: set anew, and tell those that copy what has changed.
            self.flips = false;
            self.card.set_crtc(self.crtc, Some(frame), (0, 0), &[self.connector], Some(self.mode)).map_err(no)?;
        }
        // Only drivers of displays behind a slow bus know this; the others refuse, which is fine.
        let (width, height) = self.mode.size();
        let _ = self.card.dirty_framebuffer(frame, &[ClipRect::new(0, 0, width, height)]);
        self.shown = next;
        Ok(())
    }

    fn serve(&mut self, wake: BorrowedFd<'_>, until: Duration) -> Result<bool, String> {
        wait(&mut [PollFd::from_borrowed_fd(wake, PollFlags::IN)], until);
        if self.looked.elapsed() < until {
            return Ok(false);
        }
        self.looked = Instant::now();
        match self.card.get_connector(self.connector, false) {
            Ok(info) if info.state() == connector::State::Disconnected => {
                Err("the display was unplugged. Plug it in again.".into())
            }
            Ok(_) => Ok(false),
            Err(e) => Err(refusal(&self.path, "answer", &e)),
        }
    }
}

impl Drm {
    /// `false`: this driver does not flip.
    fn flip(&self, frame: framebuffer::Handle) -> bool {
        if self.card.page_flip(self.crtc, frame, PageFlipFlags::EVENT, None).is_err() {
            return false;
        }
        let mut fds = [PollFd::new(&self.card, PollFlags::IN)];
        wait(&mut fds, FLIP);
        if fds[0].revents().contains(PollFlags::IN) {
            // Read so that it does not pile up; there is nothing else in it.
            let _ = self.card.receive_events();
        }
        true
    }
}

impl Drop for Drm {
    fn drop(&mut self) {
        for (buffer, frame) in self.buffers.drain(..) {
            // The card may be gone; the kernel frees what is left when the file is closed.
            let _ = self.card.destroy_framebuffer(frame);
            let _ = self.card.destroy_dumb_buffer(buffer);
        }
    }
}

/// The first card there is; the first possible name where there is none.
fn first_card() -> PathBuf {
    (0..8).map(|n| PathBuf::from(format!("/dev/dri/card{n}"))).find(|p| p.exists()).unwrap_or("/dev/dri/card0".into())
}

fn socket(info: &connector::Info) -> Socket {
    Socket {
        name: info.to_string(),
        connected: info.state() == connector::State::Connected,
        modes: info
            .modes()
            .iter()
            .map(|m| (m.size().0, m.size().1, m.mode_type().contains(ModeTypeFlags::PREFERRED)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    fn plug(name: &str, connected: bool, modes: &[(u16, u16, bool)]) -> Socket {
        Socket { name: name.into(), connected, modes: modes.to_vec() }
    }

    #[test]
    fn the_connector_is_the_first_connected_or_the_one_named() {
        let modes = [(1920, 1080, true), (854, 480, false)];
        let all = [plug("HDMI-A-1", false, &[]), plug("DSI-1", true, &modes), plug("DP-1", true, &modes)];
        assert_eq!(choose(&all, ""), Ok((1, 0)));
        assert_eq!(choose(&all, "DP-1"), Ok((2, 0)));
        for (wanted, parts) in [
            ("HDMI-A-1", ["nothing is connected to HDMI-A-1", "DSI-1 (connected)"]),
            ("VGA-1", ["no connector VGA-1", "HDMI-A-1 (nothing connected)"]),
        ] {
            let why = choose(&all, wanted).expect_err(wanted);
            assert!(parts.iter().all(|p| why.contains(p)), "{why}");
        }
        let why = choose(&all[..1], "").expect_err("nothing");
        assert!(why.contains("Plug it in"), "{why}");
        assert!(choose(&[], "").expect_err("none").contains("are: none"));
        // Connected without a mode: a cable without a display.
        assert!(choose(&[plug("DP-1", true, &[])], "").is_err());
    }

    #[test]
    fn the_mode_is_the_preferred_one_else_the_nearest_to_what_is_drawn() {
        let mode = |modes: &[(u16, u16, bool)]| choose(&[plug("DSI-1", true, modes)], "").expect("a mode").1;
        assert_eq!(mode(&[(640, 480, false), (1280, 720, true)]), 1);
        assert_eq!(mode(&[(1920, 1080, false), (800, 480, false), (640, 400, false)]), 1);
        assert_eq!(mode(&[(1280, 720, true), (1280, 720, true)]), 0);
    }

    #[test]
    fn card_and_connector_are_read_from_the_setting() {
        assert_eq!(parse(""), (None, ""));
        assert_eq!(parse("/dev/dri/card1"), (Some("/dev/dri/card1".into()), ""));
        assert_eq!(parse("/dev/dri/card1:HDMI-A-1"), (Some("/dev/dri/card1".into()), "HDMI-A-1"));
        assert_eq!(parse(":DSI-1"), (None, "DSI-1"));
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let card = Path::new("/dev/dri/card0");
        for (doing, code, part) in [
            ("open", libc::ENOENT, "ls /dev/dri"),
            ("open", libc::EACCES, "group video"),
            ("show", libc::EACCES, "another program rules"),
            ("show", libc::EBUSY, "wayland"),
            ("ask", libc::EOPNOTSUPP, "drives no display"),
            ("show", libc::EIO, "dmesg"),
        ] {
            let why = refusal(card, doing, &Error::from_raw_os_error(code));
            assert!(why.contains(part) && why.contains("/dev/dri/card0"), "{why}");
        }
    }

    #[test]
    fn what_is_no_card_is_refused() {
        let why = Drm::open("/nowhere/card0").err().expect("no card");
        assert!(why.contains("ls /dev/dri"), "{why}");
        let why = Drm::open("/dev/null").err().expect("no card");
        assert!(why.contains("drives no display"), "{why}");
    }
}
