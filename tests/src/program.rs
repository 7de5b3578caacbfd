//! One running program of ours: started, waited for, killed by its own process id.
//!
//! Owns: the child process, its settings and its log file. Never: kills by name.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A cold start on a busy machine may take this long.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// After SIGTERM a program may finish its work.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Mounts $1 with the option $2 and runs the rest.
const SMALL_DISK: &str = r#"
folder=$1 size=$2
shift 2
rm -rf "$folder.before"
cp -a "$folder" "$folder.before"
mount -t tmpfs -o "$size" tmpfs "$folder"
cp -a "$folder.before/." "$folder/"
exec "$@"
"#;

/// Lays the file $1 over /etc/hosts and runs the rest.
const HOSTS: &str = r#"
mount --bind "$1" /etc/hosts
shift
exec "$@"
"#;

/// What lets a program mount: a user namespace of its own, whoever starts it. In a chroot nobody gets one, but root needs none.
fn may_mount() -> &'static [&'static str] {
    let own: &[&str] = &["--user", "--map-root-user"];
    let tried = Command::new("unshare").args(own).arg("true").stderr(Stdio::null()).status();
    if tried.is_ok_and(|s| s.success()) { own } else { &[] }
}

/// The top of this repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// One of our programs, as `make` built it; `LOTSE_PROGRAMS` names another folder, for a long run that a build must not disturb.
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("LOTSE_PROGRAMS").map_or_else(|| root().join("target/debug"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: run `make build` first", path.display());
    path
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Time on a processor, user and system.
    pub cpu: Duration,
    /// Memory it holds now, bytes.
    pub rss: u64,
    /// Files, sockets and the like that it has open now.
    pub descriptors: usize,
}

impl Usage {
    pub fn own() -> Self {
        Self::of("/proc/self")
    }

    /// By proc(5): `stat` counts in ticks, `statm` in pages.
    fn of(process: &str) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("{process}/{file}")).unwrap();
        // The program's name stands in brackets and may hold spaces.
        let stat = read("stat");
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
        let pages: u64 = read("statm").split(' ').nth(1).unwrap().parse().unwrap();
        // SAFETY: sysconf only reads.
        let system = |name| unsafe { libc::sysconf(name) } as u64;
        // utime and stime are fields 14 and 15; the name was field 2.
        let ticks = fields[11] + fields[12];
        Self {
            cpu: Duration::from_secs_f64(ticks as f64 / system(libc::_SC_CLK_TCK) as f64),
            rss: pages * system(libc::_SC_PAGESIZE),
            descriptors: std::fs::read_dir(format!("{process}/fd")).unwrap().count(),
        }
    }
}

/// How a program is started, as often as wanted.
pub struct Program {
    pub name: String,
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    small_disk: Option<(PathBuf, u32)>,
    hosts: Option<PathBuf>,
    child: Option<Child>,
    /// What it said when it was ready.
    pub ready: Value,
}

impl Program {
    pub fn new(name: &str, binary_name: &str, args: &[&str], env: &[(&str, String)], folder: &Path) -> Self {
        Self {
            name: name.into(),
            binary: binary(binary_name),
            args: args.iter().map(|a| (*a).into()).collect(),
            env: env.iter().map(|(k, v)| ((*k).into(), v.clone())).collect(),
            log: folder.join(format!("{name}.log")),
            small_disk: None,
            hosts: None,
            child: None,
            ready: Value::Null,
        }
    }

    /// The same program with the same settings, doing something else beside it.
    pub fn beside(&self, name: &str, args: &[&str]) -> Self {
        let log = self.log.with_file_name(format!("{name}.log"));
        Self {
            name: name.into(),
            binary: self.binary.clone(),
            args: args.iter().map(|a| (*a).into()).collect(),
            env: self.env.clone(),
            log,
            small_disk: None,
            hosts: None,
            child: None,
            ready: Value::Null,
        }
    }

    /// Changes one setting for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.env.retain(|(k, _)| k != key);
        self.env.push((key.into(), value.into()));
    }

    /// Settings of these sections, as set for the next start.
    pub fn settings_of<const N: usize>(&self, sections: [&str; N]) -> Vec<(String, String)> {
        let of = |key: &str| sections.iter().any(|section| key.starts_with(&format!("LOTSE_{section}_")));
        self.env.iter().filter(|(key, _)| of(key)).cloned().collect()
    }

    /// From the next start on, this folder is a disk of its own of so many MB, with what lay in the folder. It ends with the
    /// program. Only the program sees it; tests look through [`Program::path_inside`].
    pub fn on_small_disk(&mut self, folder: &Path, megabytes: u32) {
        self.small_disk = Some((folder.to_owned(), megabytes));
    }

    /// From the next start on it finds these names at these addresses, and no others; the file is as hosts(5).
    pub fn with_hosts(&mut self, file: &Path) {
        self.hosts = Some(file.to_owned());
    }

    /// A path as the running program sees it.
    pub fn path_inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        if let Some((folder, megabytes)) = &self.small_disk {
            std::fs::create_dir_all(folder).unwrap();
            // Each step replaces itself by the next, so the id stays.
            command = Command::new("unshare");
            command.args(may_mount()).args(["--mount", "sh", "-euc", SMALL_DISK, "sh"]);
            command.arg(folder).arg(format!("size={megabytes}m")).arg(&self.binary);
        } else if let Some(hosts) = &self.hosts {
            command = Command::new("unshare");
            command.args(may_mount()).args(["--mount", "sh", "-euc", HOSTS, "sh"]).arg(hosts).arg(&self.binary);
        }
        command.args(&self.args).stdin(Stdio::null());
        for (key, _) in std::env::vars().filter(|(k, _)| k.starts_with("LOTSE_")) {
            command.env_remove(key);
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Starts it and waits for its ready line.
    pub async fn start(&mut self) {
        if let Err(status) = self.try_start().await {
            panic!("{} ended with {status} before it was ready:\n{}", self.name, self.log_tail());
        }
    }

    /// Starts it; an error is how it ended before it was ready.
    pub async fn try_start(&mut self) -> Result<(), ExitStatus> {
        assert!(self.child.is_none(), "{} is running already", self.name);
        let log = self.open_log();
        let mut child = self.command().stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        self.child = Some(child);
        let (say, said) = mpsc::channel();
        let mut copy = self.open_log();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = writeln!(copy, "{line}");
                if let Some(ready) = serde_json::from_str::<Value>(&line).ok().filter(|v| v["ready"].is_string()) {
                    let _ = say.send(ready);
                }
            }
        });
        let end = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(ready) = said.try_recv() {
                self.ready = ready;
                return Ok(());
            }
            if let Some(status) = self.ended() {
                self.child = None;
                return Err(status);
            }
            assert!(Instant::now() < end, "{} is not ready:\n{}", self.name, self.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs it to its end and returns exit code, stdout and stderr: for programs that should refuse to start.
    pub async fn run_to_end(&self) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::from(self.command());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let out = tokio::time::timeout(READY_WITHIN, command.output()).await;
        let out = out.unwrap_or_else(|_| panic!("{} neither failed nor ended", self.name)).unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(&self.log).unwrap()
    }

    /// Everything it wrote to stdout and stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        Usage::of(&format!("/proc/{}", self.pid()))
    }

    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.ended().is_none()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|c| c.try_wait().ok().flatten())
    }

    /// The power cut: SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and SIGKILL when that does not help. Its exit code, `None` when it was killed or did not run, and how long it took.
    pub async fn stop(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        if self.child.is_none() {
            return (None, Duration::ZERO);
        }
        self.signal(libc::SIGTERM);
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if began.elapsed() > STOP_WITHIN {
                self.signal(libc::SIGKILL);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        self.child = None;
        (status.code(), began.elapsed())
    }

    /// Freezes (`SIGSTOP`), wakes (`SIGCONT`) or ends the running program.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and not yet waited for, so the id is still its own.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }

    /// Panics in any of our programs are bugs, whatever the input.
    pub fn assert_no_panic(&self) {
        let log = self.log();
        let panic = log.lines().find(|l| l.contains("panicked at"));
        assert!(panic.is_none(), "{} panicked: {}", self.name, panic.unwrap_or_default());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log_tail());
        }
    }
}
