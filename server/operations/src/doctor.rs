//! What the doctors of all programs share: a finding in both languages, how it is printed, and the looks that all of them take.
//!
//! Never: changes anything but a file it writes and removes to try a disk. Elsewhere: what else each program looks at (the `doctor` of
//! server, archivist and glasses), how a certificate is asked for (`lotse-trust`).

use std::{
    fmt::Display,
    io::Write as _,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

/// Written to see how fast a disk is, bytes: events and fragments are flushed one by one.
const TRIAL: usize = 8 << 20;
const SLOW: Duration = Duration::from_secs(4);
/// A clock before this build is wrong: 1 January 2026, seconds since 1970.
const BUILT: u64 = 1_767_225_600;
/// Seconds: beyond this, certificates and the order of a log suffer. The server's answer gives whole seconds.
const CLOCK_PLAY: i64 = 5;
/// Fewer days are soon over.
const FEW_DAYS: i64 = 7;

/// One thing looked at, in both languages; what is wrong says what to do next.
pub struct Finding {
    pub what: &'static str,
    pub ok: bool,
    pub en: String,
    pub de: String,
}

pub fn fine(what: &'static str, en: impl Into<String>, de: impl Into<String>) -> Finding {
    Finding { what, ok: true, en: en.into(), de: de.into() }
}

pub fn wrong(what: &'static str, en: impl Into<String>, de: impl Into<String>) -> Finding {
    Finding { what, ok: false, en: en.into(), de: de.into() }
}

/// A sentence of the program, which has it in English alone.
pub fn failed(what: &'static str, e: &dyn Display) -> Finding {
    wrong(what, e.to_string(), format!("{e} (Meldung des Programms, englisch)"))
}

/// Does the system speak German? By `LC_ALL`, `LC_MESSAGES`, `LANG`, whichever speaks first.
pub fn german(env: impl Fn(&str) -> Option<String>) -> bool {
    let said = ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|name| env(name).filter(|v| !v.is_empty()));
    said.is_some_and(|v| v.starts_with("de"))
}

/// Prints findings, one line each; as JSON: an object each.
pub struct Printer {
    pub german: bool,
    pub as_json: bool,
    /// Nothing was wrong so far.
    pub well: bool,
}

impl Printer {
    pub fn new(german: bool, as_json: bool) -> Self {
        Self { german, as_json, well: true }
    }

    pub fn say(&mut self, finding: &Finding) {
        self.well &= finding.ok;
        // A closed pipe: nobody reads the rest.
        let _ = writeln!(std::io::stdout(), "{}", self.line(finding));
    }

    fn line(&self, finding: &Finding) -> String {
        let text = if self.german { &finding.de } else { &finding.en };
        if self.as_json {
            return serde_json::json!({ "kind": "doctor", "what": finding.what, "ok": finding.ok, "found": text })
                .to_string();
        }
        let mark = match (finding.ok, self.german) {
            (true, _) => "ok",
            (false, true) => "FEHLER",
            (false, false) => "NOT OK",
        };
        format!("{mark:<8}{:<13}{text}", finding.what)
    }
}

/// A disk that a program writes to all day.
pub struct Disk {
    pub program: &'static str,
    /// Less free space than this is too little, bytes.
    pub little: u64,
    /// What comes of a slow one.
    pub slow_en: &'static str,
    pub slow_de: &'static str,
}

impl Disk {
    /// Space, and how long a flushed write takes.
    pub fn look_at(&self, dir: &Path) -> Finding {
        let shown = dir.display();
        let program = self.program;
        match trial(dir) {
            Err(e) => wrong(
                "disk",
                format!("{shown}: {e}. Give the folder to the user {program} runs as, and free space there"),
                format!("{shown}: {e}. Den Ordner dem Benutzer von {program} geben und dort Platz schaffen"),
            ),
            Ok((_, free)) if free < self.little => wrong(
                "disk",
                format!("{shown} has only {} MiB free. Make room, or move [data] dir", free >> 20),
                format!("{shown} hat nur {} MiB frei. Platz schaffen oder [data] dir verlegen", free >> 20),
            ),
            Ok((took, _)) if took > SLOW => {
                let (s, en, de) = (took.as_secs_f64(), self.slow_en, self.slow_de);
                wrong(
                    "disk",
                    format!("{shown}: 8 MiB took {s:.1} s to be safe. {en}: use a faster disk"),
                    format!("{shown}: 8 MiB brauchten {s:.1} s. {de}: schnellere Platte nehmen"),
                )
            }
            Ok((took, free)) => {
                let speed = (TRIAL as f64 / took.as_secs_f64().max(1e-6) / 1e6).round();
                let gib = free >> 30;
                fine(
                    "disk",
                    format!("{shown}: {gib} GiB free, {speed} MB/s"),
                    format!("{shown}: {gib} GiB frei, {speed} MB/s"),
                )
            }
        }
    }
}

/// How long a flushed write took, and how many bytes are free.
fn trial(dir: &Path) -> std::io::Result<(Duration, u64)> {
    std::fs::create_dir_all(dir)?;
    let probe = dir.join(".doctor");
    let begin = Instant::now();
    let written = std::fs::File::create(&probe).and_then(|mut file| {
        file.write_all(&vec![0x5a; TRIAL])?;
        file.sync_all()
    });
    let took = begin.elapsed();
    // Removed even when it could not be filled.
    let _ = std::fs::remove_file(&probe);
    written?;
    Ok((took, crate::disk::space(dir)?.free))
}

/// The time of day, against common sense, and against the server (seconds since 1970) where it answered.
pub fn clock(now: SystemTime, server: Option<i64>) -> Finding {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if seconds < BUILT {
        return wrong(
            "clock",
            "is years behind: certificates and logins will fail. Set it, and let the system keep it by NTP",
            "geht Jahre nach: Zertifikate und Anmeldungen schlagen fehl. Stellen, und per NTP stellen lassen",
        );
    }
    let Some(server) = server else { return fine("clock", "is plausible", "ist plausibel") };
    let off = seconds as i64 - server;
    if off.abs() > CLOCK_PLAY {
        return wrong(
            "clock",
            format!("differs from the server's by {off} s. Let both be set by NTP: timedatectl set-ntp true"),
            format!("weicht um {off} s von der des Servers ab. Beide per NTP stellen lassen: timedatectl set-ntp true"),
        );
    }
    fine("clock", "agrees with the server's", "stimmt mit der des Servers überein")
}

/// The server's certificate, as one who only uses it sees it.
pub fn certificate(days_left: i64, names: &[String]) -> Finding {
    if days_left < FEW_DAYS {
        return wrong(
            "certificate",
            format!("runs out in {days_left} days. Tell the server's administrator"),
            format!("läuft in {days_left} Tagen ab. Die Administration des Servers verständigen"),
        );
    }
    certificate_is_fine(days_left, names)
}

pub fn certificate_is_fine(days_left: i64, names: &[String]) -> Finding {
    let names = names.join(", ");
    fine(
        "certificate",
        format!("for {names}, {days_left} days left"),
        format!("für {names}, noch {days_left} Tage gültig"),
    )
}

/// Is this address free for a program to listen at? `setting` is where it stands, `machine` what it runs on, in German.
pub fn listens(
    what: &'static str,
    bound: std::io::Result<()>,
    at: &dyn Display,
    program: &str,
    setting: &str,
    machine: &str,
) -> Finding {
    match bound {
        Ok(()) => fine(what, format!("{at} is free"), format!("{at} ist frei")),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => fine(
            what,
            format!("{at} is in use: fine if that is {program} itself"),
            format!("{at} ist belegt: richtig, falls das {program} selbst ist"),
        ),
        Err(e) => wrong(
            what,
            format!("{at}: {e}. Choose an address of this machine in {setting}"),
            format!("{at}: {e}. In {setting} eine Adresse dieses {machine} wählen"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_the_server_and_by_common_sense() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!clock(at(1_000), None).ok, "1970");
        assert!(clock(at(BUILT + 9), None).ok);
        let server = BUILT as i64 + 1_000;
        assert!(clock(at(BUILT + 1_003), Some(server)).ok);
        let late = clock(at(BUILT + 940), Some(server));
        assert!(!late.ok && late.en.contains("-60 s") && late.de.contains("NTP"), "{}", late.en);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_with_its_remedy() {
        let dir = tempfile::tempdir().expect("dir");
        let disk = Disk { program: "lotse-server", little: 1, slow_en: "It lags", slow_de: "Es hinkt" };
        assert!(disk.look_at(&dir.path().join("below")).ok);
        let file = dir.path().join("file");
        std::fs::write(&file, b"").expect("file");
        let found = disk.look_at(&file.join("below"));
        assert!(!found.ok && found.en.contains("below") && found.de.contains("Benutzer"), "{}", found.en);
        let found = Disk { little: u64::MAX, ..disk }.look_at(dir.path());
        assert!(!found.ok && found.en.contains("Make room"), "{}", found.en);
    }

    #[test]
    fn a_certificate_that_is_soon_over_is_told() {
        let names = ["lotse.example".to_owned(), "10.0.0.7".to_owned()];
        let good = certificate(20, &names);
        assert!(good.ok && good.en.contains("lotse.example, 10.0.0.7"), "{}", good.en);
        assert!(!certificate(6, &names).ok);
    }

    #[test]
    fn german_comes_from_the_system() {
        assert!(german(|n| (n == "LANG").then(|| "de_AT.UTF-8".into())));
        assert!(!german(|n| if n == "LANG" { Some("de_DE".into()) } else { Some("C".into()) }));
        assert!(!german(|_| None));
    }

    #[test]
    fn a_finding_is_one_line_for_people_and_one_object_for_machines() {
        let found = wrong("disk", "is full. Make room", "ist voll. Platz schaffen");
        let line = |german, as_json| Printer::new(german, as_json).line(&found);
        assert_eq!(line(false, false), "NOT OK  disk         is full. Make room");
        assert_eq!(line(true, false), "FEHLER  disk         ist voll. Platz schaffen");
        let json: serde_json::Value = serde_json::from_str(&line(true, true)).expect("an object");
        assert_eq!((&json["ok"], &json["found"]), (&false.into(), &"ist voll. Platz schaffen".into()));
    }
}
