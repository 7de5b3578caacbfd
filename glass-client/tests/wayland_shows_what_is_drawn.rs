//! The display under a real compositor (weston, headless): what is drawn is on its output, pixel by pixel; a compositor that goes
//! and comes back is survived.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use lotse_glass::{
    capture::yuv::Rgba,
    hud::{
        gallery,
        panel::{self, PanelDisplay, Troubles},
        placing,
    },
};

/// A cold start of a compositor on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A compositor of its own in its own folder.
struct Weston {
    child: Child,
    dir: PathBuf,
}

impl Weston {
    fn start(dir: &Path, size: (u32, u32)) -> Self {
        let child = Command::new("weston")
            .args(["--backend=headless-backend.so", "--use-pixman", "--no-config", "--idle-time=0", "--debug"])
            .args([format!("--width={}", size.0), format!("--height={}", size.1), "--socket=w".into()])
            .arg(format!("--log={}", dir.join("weston.log").display()))
            .env("XDG_RUNTIME_DIR", dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("weston is installed by tests/setup.sh");
        Self { child, dir: dir.to_owned() }
    }

    /// What its output shows.
    fn looks(&self) -> Option<Rgba> {
        let shots = self.dir.join("shots");
        let _ = std::fs::remove_dir_all(&shots);
        std::fs::create_dir_all(&shots).expect("folder");
        let done = Command::new("weston-screenshooter")
            .env("XDG_RUNTIME_DIR", &self.dir)
            .env("WAYLAND_DISPLAY", "w")
            .env("XDG_PICTURES_DIR", &shots)
            .current_dir(&shots)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("weston-screenshooter comes with weston");
        let file = std::fs::read_dir(&shots).ok()?.flatten().next()?.path();
        let picture = done.success().then(|| image::open(&file).ok())??.into_rgba8();
        Some(Rgba { width: picture.width(), height: picture.height(), pixels: picture.into_raw() })
    }

    fn ends(mut self) {
        self.child.kill().expect("runs");
        self.child.wait().expect("ended");
        // What a killed compositor leaves behind.
        let _ = std::fs::remove_file(self.dir.join("w"));
        let _ = std::fs::remove_file(self.dir.join("w.lock"));
    }
}

fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The picture as an output of this size has to show it.
fn expected(picture: &Rgba, size: (u32, u32)) -> Vec<u8> {
    let stride = size.0 as usize * 4;
    let mut out = vec![0; stride * size.1 as usize];
    placing::fill(picture, size, stride, &mut out);
    // To RGBA, opaque.
    out.chunks_exact(4).flat_map(|p| [p[2], p[1], p[0], 255]).collect()
}

fn pictures(dir: &Path) -> Vec<Rgba> {
    gallery::write(dir, None).expect("gallery");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).expect("dir").flatten().map(|e| e.path()).collect();
    files.sort();
    let open = |f: &PathBuf| image::open(f).expect("png").into_rgba8();
    files.iter().map(open).map(|p| Rgba { width: p.width(), height: p.height(), pixels: p.into_raw() }).collect()
}

#[test]
fn what_is_drawn_is_on_the_output_and_comes_back_with_the_compositor() {
    let dir = tempfile::Builder::new().prefix("lotse-w").tempdir().expect("dir");
    // A compositor takes only a private folder.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("0700");
    let drawn = pictures(&dir.path().join("gallery"));
    let (first, second) = (Arc::new(drawn[0].clone()), Arc::new(drawn[drawn.len() / 2].clone()));
    assert_ne!(first, second);
    let setting = format!("wayland:{}", dir.path().join("w").display());
    let troubles = Troubles::default();
    let trouble = || troubles.lock().expect("lock").get(&setting).cloned();

    // Nobody there yet: told, and tried again.
    let display = PanelDisplay::start(&setting, troubles.clone()).expect("starts");
    display.show(first.clone());
    let why = eventually("the missing compositor is told", trouble);
    assert!(why.contains("no compositor answers"), "{why}");

    let size = (854, 480);
    let weston = Weston::start(dir.path(), size);
    let shows = |weston: &Weston, picture: &Rgba, size| {
        let wanted = expected(picture, size);
        let seen = eventually("the picture on the output", || {
            weston.looks().filter(|seen| (seen.width, seen.height) == size && seen.pixels == wanted)
        });
        seen
    };
    let seen = shows(&weston, &first, size);
    assert_eq!(seen.pixels, first.pixels, "at its own size the output has the very pixels that were drawn");
    assert_eq!(trouble(), None);
    display.show(second.clone());
    shows(&weston, &second, size);
    assert_eq!(panel::look_at(&setting), Ok(size), "for the doctor");

    // The compositor goes, and comes back with a larger output: the newest picture, scaled, between black bars.
    weston.ends();
    eventually("the lost compositor is told", trouble);
    let size = (1280, 800);
    let weston = Weston::start(dir.path(), size);
    let seen = shows(&weston, &second, size);
    assert!(seen.pixels[..1280 * 4 * 39].chunks_exact(4).all(|p| p[..3] == [0, 0, 0]), "a black bar above");
    assert_eq!(trouble(), None);
    if let Some(keep) = std::env::var_os("LOTSE_KEEP_PICTURES") {
        lotse_glass::hud::display::save(&seen, &Path::new(&keep).join("wayland-1280x800.png")).expect("saved");
    }
    drop(display);
    weston.ends();
}
