//! A display under a Wayland compositor: one fullscreen surface in shared memory.
//!
//! Owns: the connection, the surface and its buffers. Draws on change and when the compositor names another size.
//! Never: input, a second window, a GPU. Elsewhere: when it is opened again (`panel`), scaling (`placing`).

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::{fs::FileExt as _, net::UnixStream},
    },
    path::PathBuf,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{MemfdFlags, memfd_create},
};
use wayland_client::{
    Connection, Dispatch, EventQueue, QueueHandle,
    backend::WaylandError,
    delegate_noop,
    protocol::{wl_buffer, wl_compositor, wl_registry, wl_shm, wl_shm_pool, wl_surface},
};
use wayland_protocols::xdg::shell::client::{xdg_surface, xdg_toplevel, xdg_wm_base};

use super::{HEIGHT, WIDTH, panel::Panel, panel::wait, placing};
use crate::capture::yuv::Rgba;

/// Buffers of one size: one shown, one on its way, one to draw into.
const BUFFERS: usize = 3;
/// No display is larger, pixels: a compositor that asks for more is refused.
const LARGEST: u32 = 8_192;
/// Round trips until the compositor has said how large the surface is.
const CONFIGURES: usize = 10;

/// An open surface.
pub struct Wayland {
    connection: Connection,
    queue: EventQueue<Seen>,
    seen: Seen,
}

/// What the compositor said so far.
#[derive(Default)]
struct Seen {
    compositor: Option<wl_compositor::WlCompositor>,
    shm: Option<wl_shm::WlShm>,
    shell: Option<xdg_wm_base::XdgWmBase>,
    /// Of the last configure that was acknowledged; (0, 0): as we like.
    asked: (u32, u32),
    configured: bool,
    /// Draw again: another size, or a buffer came back that was waited for.
    again: bool,
    waiting: bool,
    closed: bool,
    surface: Option<wl_surface::WlSurface>,
    buffers: Vec<Buffer>,
}

struct Buffer {
    buffer: wl_buffer::WlBuffer,
    size: (u32, u32),
    memory: File,
    busy: bool,
}

impl Panel for Wayland {
    fn open(place: &str) -> Result<Self, String> {
        let path = socket(place, &|name| std::env::var_os(name).map(PathBuf::from))?;
        let shown = path.display();
        let stream = UnixStream::connect(&path).map_err(|e| {
            format!(
                "no compositor answers at {shown}: {e}. Start it (e.g. weston), or name its socket: \"wayland:SOCKET\"."
            )
        })?;
        let connection = Connection::from_socket(stream).map_err(|e| format!("{shown}: {e}."))?;
        let mut queue = connection.new_event_queue();
        let handle = queue.handle();
        connection.display().get_registry(&handle, ());
        let mut seen = Seen::default();
        queue.roundtrip(&mut seen).map_err(|e| gone(&e))?;
        let missing =
            |what: &str| format!("the compositor at {shown} lacks {what}. Use one with xdg-shell, e.g. weston.");
        let compositor = seen.compositor.as_ref().ok_or_else(|| missing("wl_compositor"))?;
        let shell = seen.shell.as_ref().ok_or_else(|| missing("xdg_wm_base"))?;
        seen.shm.as_ref().ok_or_else(|| missing("wl_shm"))?;
        let surface = compositor.create_surface(&handle, ());
        let top = shell.get_xdg_surface(&surface, &handle, ()).get_toplevel(&handle, ());
        top.set_title("Lotse".into());
        top.set_app_id("lotse-glass".into());
        top.set_fullscreen(None);
        surface.commit();
        seen.surface = Some(surface);
        for _ in 0..CONFIGURES {
            queue.roundtrip(&mut seen).map_err(|e| gone(&e))?;
            if seen.configured {
                return Ok(Self { connection, queue, seen });
            }
        }
        Err(format!("the compositor at {shown} has no place for a window. Check that it has an output."))
    }

    fn size(&self) -> (u32, u32) {
        self.seen.size()
    }

    fn present(&mut self, picture: &Rgba) -> Result<(), String> {
        let size = self.seen.size();
        if size.0 > LARGEST || size.1 > LARGEST {
            return Err(format!(
                "the compositor asks for {}x{}; at most {LARGEST}x{LARGEST} is drawn.",
                size.0, size.1
            ));
        }
        let handle = self.queue.handle();
        self.seen.draw(picture, size, &handle)?;
        self.connection.flush().map_err(|e| gone(&e))
    }

    fn serve(&mut self, wake: BorrowedFd<'_>, until: Duration) -> Result<bool, String> {
        self.queue.dispatch_pending(&mut self.seen).map_err(|e| gone(&e))?;
        self.connection.flush().map_err(|e| gone(&e))?;
        if let Some(reading) = self.connection.prepare_read() {
            let fd = reading.connection_fd();
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN), PollFd::from_borrowed_fd(wake, PollFlags::IN)];
            if !self.seen.again {
                wait(&mut fds, until);
            }
            if !fds[0].revents().is_empty() {
                match reading.read() {
                    Err(WaylandError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(gone(&e)),
                    Ok(_) => {}
                }
            }
        }
        self.queue.dispatch_pending(&mut self.seen).map_err(|e| gone(&e))?;
        if self.seen.closed {
            return Err("the compositor closed the window.".into());
        }
        Ok(std::mem::take(&mut self.seen.again))
    }
}

fn gone(e: &dyn std::fmt::Display) -> String {
    format!("the compositor is gone: {e}.")
}

/// The socket: named in the setting, else by the session.
fn socket(place: &str, env: &dyn Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, String> {
    let name = match place {
        "" => env("WAYLAND_DISPLAY").unwrap_or_else(|| "wayland-0".into()),
        name => name.into(),
    };
    if name.is_absolute() {
        return Ok(name);
    }
    match env("XDG_RUNTIME_DIR") {
        Some(dir) => Ok(dir.join(name)),
        None => {
            Err("XDG_RUNTIME_DIR is not set. Name the whole path of the socket: \"wayland:/run/user/1000/wayland-0\"."
                .into())
        }
    }
}

impl Seen {
    fn size(&self) -> (u32, u32) {
        match self.asked {
            (0, _) | (_, 0) => (WIDTH, HEIGHT),
            size => size,
        }
    }

    fn draw(&mut self, picture: &Rgba, size: (u32, u32), handle: &QueueHandle<Self>) -> Result<(), String> {
        self.buffers.retain(|b| b.size == size || b.busy);
        let free = self.buffers.iter().position(|b| !b.busy && b.size == size);
        let at = match free {
            Some(at) => at,
            None if self.buffers.len() < BUFFERS => {
                let buffer = self.make(size, handle).map_err(|e| format!("no memory for a picture: {e}."))?;
                self.buffers.push(buffer);
                self.buffers.len() - 1
            }
            // All are with the compositor: drawn when it gives one back.
            None => {
                self.waiting = true;
                return Ok(());
            }
        };
        let stride = size.0 as usize * 4;
        let mut pixels = vec![0; stride * size.1 as usize];
        placing::fill(picture, size, stride, &mut pixels);
        let buffer = &mut self.buffers[at];
        buffer.memory.write_all_at(&pixels, 0).map_err(|e| format!("no memory for a picture: {e}."))?;
        buffer.busy = true;
        if let Some(surface) = &self.surface {
            surface.attach(Some(&buffer.buffer), 0, 0);
            // The whole: what moves least is the line on top, and a picture is 1.6 MB.
            surface.damage(0, 0, i32::MAX, i32::MAX);
            surface.commit();
        }
        Ok(())
    }

    fn make(&self, size: (u32, u32), handle: &QueueHandle<Self>) -> std::io::Result<Buffer> {
        let memory = File::from(memfd_create("lotse-glass", MemfdFlags::CLOEXEC)?);
        // At most LARGEST squared times 4: fits.
        let (width, height) = (size.0 as i32, size.1 as i32);
        let bytes = width * height * 4;
        memory.set_len(bytes as u64)?;
        let shm = self.shm.as_ref().ok_or(std::io::ErrorKind::NotConnected)?;
        let pool = shm.create_pool(memory.as_fd(), bytes, handle, ());
        let buffer = pool.create_buffer(0, width, height, width * 4, wl_shm::Format::Xrgb8888, handle, ());
        pool.destroy();
        Ok(Buffer { buffer, size, memory, busy: false })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.buffer.destroy();
    }
}

impl Dispatch<wl_registry::WlRegistry, ()> for Seen {
    fn event(
        seen: &mut Self,
        registry: &wl_registry::WlRegistry,
        event: wl_registry::Event,
        (): &(),
        _: &Connection,
        handle: &QueueHandle<Self>,
    ) {
        let wl_registry::Event::Global { name, interface, .. } = event else { return };
        match interface.as_str() {
            "wl_compositor" => seen.compositor = Some(registry.bind(name, 1, handle, ())),
            "wl_shm" => seen.shm = Some(registry.bind(name, 1, handle, ())),
            "xdg_wm_base" => seen.shell = Some(registry.bind(name, 1, handle, ())),
            _ => {}
        }
    }
}

impl Dispatch<xdg_wm_base::XdgWmBase, ()> for Seen {
    fn event(
        _: &mut Self,
        shell: &xdg_wm_base::XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            shell.pong(serial);
        }
    }
}

impl Dispatch<xdg_surface::XdgSurface, ()> for Seen {
    fn event(
        seen: &mut Self,
        surface: &xdg_surface::XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            surface.ack_configure(serial);
            seen.configured = true;
            seen.again = true;
        }
    }
}

impl Dispatch<xdg_toplevel::XdgToplevel, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &xdg_toplevel::XdgToplevel,
        event: xdg_toplevel::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            xdg_toplevel::Event::Configure { width, height, .. } => {
                seen.asked = (width.try_into().unwrap_or(0), height.try_into().unwrap_or(0));
            }
            xdg_toplevel::Event::Close => seen.closed = true,
            _ => {}
        }
    }
}

impl Dispatch<wl_buffer::WlBuffer, ()> for Seen {
    fn event(
        seen: &mut Self,
        buffer: &wl_buffer::WlBuffer,
        event: wl_buffer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_buffer::Event::Release = event
            && let Some(b) = seen.buffers.iter_mut().find(|b| b.buffer == *buffer)
        {
            b.busy = false;
            seen.again |= std::mem::take(&mut seen.waiting);
        }
    }
}

delegate_noop!(Seen: wl_compositor::WlCompositor);
delegate_noop!(Seen: wl_shm_pool::WlShmPool);
delegate_noop!(Seen: ignore wl_shm::WlShm);
delegate_noop!(Seen: ignore wl_surface::WlSurface);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_that_of_the_setting_or_of_the_session() {
        let session = |name: &str| match name {
            "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run/user/7")),
            "WAYLAND_DISPLAY" => Some(PathBuf::from("wayland-3")),
            _ => None,
        };
        assert_eq!(socket("", &session), Ok("/run/user/7/wayland-3".into()));
        assert_eq!(socket("wayland-9", &session), Ok("/run/user/7/wayland-9".into()));
        assert_eq!(socket("/tmp/w", &|_| None), Ok("/tmp/w".into()));
        let why = socket("", &|_| None).expect_err("nowhere");
        assert!(why.contains("XDG_RUNTIME_DIR") && why.contains("wayland:/"), "{why}");
    }

    #[test]
    fn a_compositor_that_is_not_there_is_named_with_the_remedy() {
        let why = Wayland::open("/nowhere/wayland-0").err().expect("nobody");
        assert!(why.contains("/nowhere/wayland-0") && why.contains("weston"), "{why}");
    }
}
