//! `lotse-archivist doctor`: looks at everything a recording needs and says what is wrong, with its remedy, in German or English.
//!
//! One line per finding, `ok` or `NOT OK`; `--json` gives the same to machines. Never: changes anything but a file it writes and
//! removes to try a folder. Elsewhere: media ports and relays, asked from any machine (`lotse-server doctor`).

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use lotse_trust::Facts;

use crate::{config::Config, enrol, keys::Keys};

/// Below this much free space a recording of a day may not fit, bytes: 10 GiB.
const LITTLE: u64 = 10 << 30;
/// Written to see how fast the disk is: fragments of several calls are flushed every two seconds.
const TRIAL: usize = 8 << 20;
const SLOW: Duration = Duration::from_secs(4);
/// A clock before this build is wrong: 1 January 2026, seconds since 1970.
const BUILT: u64 = 1_767_225_600;
/// Seconds: beyond this, pictures and log no longer agree. The server's answer gives whole seconds.
const CLOCK_PLAY: i64 = 5;
/// For the archivist itself, on this machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Fewer days are soon over.
const FEW_DAYS: i64 = 7;

/// One thing looked at, in both languages.
struct Finding {
    what: &'static str,
    ok: bool,
    en: String,
    de: String,
}

fn fine(what: &'static str, en: impl Into<String>, de: impl Into<String>) -> Finding {
    Finding { what, ok: true, en: en.into(), de: de.into() }
}

fn wrong(what: &'static str, en: impl Into<String>, de: impl Into<String>) -> Finding {
    Finding { what, ok: false, en: en.into(), de: de.into() }
}

/// A sentence of the program, which has it in English alone.
fn failed(what: &'static str, e: &dyn std::fmt::Display) -> Finding {
    wrong(what, e.to_string(), format!("{e} (Meldung des Programms, englisch)"))
}

/// Prints one line for each thing looked at; `as_json`: one object. Returns whether all is well.
pub async fn run(config: &Config, as_json: bool) -> bool {
    let german = german(|name| std::env::var(name).ok());
    let mut found = vec![disk(&config.data), pairing(config), http(config).await];
    found.extend(server(config).await);
    found.push(media(config).await);
    for finding in &found {
        let text = if german { &finding.de } else { &finding.en };
        let line = if as_json {
            serde_json::json!({ "kind": "doctor", "what": finding.what, "ok": finding.ok, "found": text }).to_string()
        } else {
            let mark = match (finding.ok, german) {
                (true, _) => "ok",
                (false, true) => "FEHLER",
                (false, false) => "NOT OK",
            };
            format!("{mark:<8}{:<13}{text}", finding.what)
        };
        // A closed pipe: nobody reads the rest.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    found.iter().all(|f| f.ok)
}

/// By `LC_ALL`, `LC_MESSAGES`, `LANG`, whichever speaks first.
fn german(env: impl Fn(&str) -> Option<String>) -> bool {
    let said = ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|name| env(name).filter(|v| !v.is_empty()));
    said.is_some_and(|v| v.starts_with("de"))
}

/// Space, and how long a flushed write takes.
fn disk(dir: &Path) -> Finding {
    let shown = dir.display();
    let tried = (|| {
        std::fs::create_dir_all(dir)?;
        let probe = dir.join(".probe");
        let begin = Instant::now();
        let written = std::fs::File::create(&probe).and_then(|mut file| {
            file.write_all(&vec![0x5a; TRIAL])?;
            file.sync_all()
        });
        let took = begin.elapsed();
        // Removed even when it could not be filled.
        let _ = std::fs::remove_file(&probe);
        written?;
        Ok::<_, std::io::Error>((took, lotse_operations::disk::space(dir)?.free))
    })();
    match tried {
        Err(e) => wrong(
            "disk",
            format!("{shown}: {e}. Give it to the user lotse-archivist runs as, and free space there"),
            format!("{shown}: {e}. Den Ordner dem Benutzer von lotse-archivist geben und dort Platz schaffen"),
        ),
        Ok((_, free)) if free < LITTLE => wrong(
            "disk",
            format!("{shown} has only {} MiB free. Make room, or move [data] dir", free >> 20),
            format!("{shown} hat nur {} MiB frei. Platz schaffen oder [data] dir verlegen", free >> 20),
        ),
        Ok((took, _)) if took > SLOW => wrong(
            "disk",
            format!(
                "{shown}: 8 MiB took {:.1} s to be safe. Recordings will have gaps: use a faster disk",
                took.as_secs_f64()
            ),
            format!(
                "{shown}: 8 MiB brauchten {:.1} s. Aufzeichnungen bekommen Lücken: schnellere Platte nehmen",
                took.as_secs_f64()
            ),
        ),
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

fn pairing(config: &Config) -> Finding {
    match Keys::open(&config.keys).and_then(|k| k.enrolment()) {
        Ok(Some(e)) => {
            fine("keys", format!("paired as device {}", e.device), format!("gekoppelt als Gerät {}", e.device))
        }
        Ok(None) if config.pairing_code.is_empty() => wrong(
            "keys",
            "not paired. Ask an administrator for a pairing code and set [server] pairing_code for one start",
            "nicht gekoppelt. Kopplungscode bei der Administration holen und für einen Start in [server] pairing_code eintragen",
        ),
        Ok(None) => {
            fine("keys", "not paired yet; a pairing code is set", "noch nicht gekoppelt; ein Kopplungscode ist gesetzt")
        }
        Err(e) => failed("keys", &e),
    }
}

async fn http(config: &Config) -> Finding {
    let at = config.listen;
    match tokio::net::TcpListener::bind(at).await {
        Ok(_) => fine("http", format!("{at} is free"), format!("{at} ist frei")),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => fine(
            "http",
            format!("{at} is in use: fine if that is lotse-archivist itself"),
            format!("{at} ist belegt: richtig, falls das lotse-archivist selbst ist"),
        ),
        Err(e) => wrong(
            "http",
            format!("{at}: {e}. Choose an address of this machine in [http] listen"),
            format!("{at}: {e}. In [http] listen eine Adresse dieses Rechners wählen"),
        ),
    }
}

/// By which way media came last, as the running archivist says: nobody learns the server's media ports outside of a session.
async fn media(config: &Config) -> Finding {
    let mut at = config.listen;
    if at.ip().is_unspecified() {
        at.set_ip(if at.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() });
    }
    let asked = async {
        lotse_trust::use_ring();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        client.get(format!("http://{at}/readyz")).send().await?.json::<serde_json::Value>().await
    };
    let ready = asked.await.ok();
    way(ready.as_ref().and_then(|ready| ready["media"].as_str()))
}

fn way(said: Option<&str>) -> Finding {
    match said {
        Some("UDP") => fine("media", "came by UDP in the newest session", "kamen in der jüngsten Sitzung über UDP"),
        Some("TCP") => fine(
            "media",
            "came over TCP in the newest session: no UDP gets from here to the server. Recording works; on a bad line it has fewer gaps by UDP, for which the ports from media.udp_port on must be open",
            "kamen in der jüngsten Sitzung über TCP: UDP gelangt von hier nicht zum Server. Die Aufzeichnung läuft; über UDP hat sie auf schlechter Leitung weniger Lücken, dafür müssen die Ports ab media.udp_port offen sein",
        ),
        Some(_) => fine(
            "media",
            "lotse-archivist has been in no session since its start, so no way is known yet. Let somebody call, then ask again",
            "lotse-archivist war seit seinem Start in keiner Sitzung, also ist noch kein Weg bekannt. Einen Anruf führen, dann noch einmal fragen",
        ),
        None => fine(
            "media",
            "start lotse-archivist, let somebody call, then ask again: it says by which way media come",
            "lotse-archivist starten, einen Anruf führen und noch einmal fragen: er sagt, auf welchem Weg Bild und Ton kommen",
        ),
    }
}

/// Whether it answers, what its certificate is worth, and what time it has.
async fn server(config: &Config) -> Vec<Finding> {
    let url = &config.server_url;
    let client = Keys::open(&config.keys).and_then(|keys| enrol::client(enrol::tls(config, &keys)?, config));
    let answer = match client {
        Ok(client) => client.get(format!("{url}/healthz")).send().await.map_err(|e| enrol::trouble(config, &e)),
        Err(e) => Err(e),
    };
    let reply = match answer {
        Ok(reply) => reply,
        Err(e) => return vec![failed("server", &e), clock(SystemTime::now(), None)],
    };
    let date = reply.headers().get(reqwest::header::DATE).and_then(|d| d.to_str().ok());
    let date = date.and_then(|d| jiff::fmt::rfc2822::parse(d).ok()).map(|d| d.timestamp().as_second());
    let mut found = vec![if reply.status().is_success() {
        fine("server", format!("{url} answers"), format!("{url} antwortet"))
    } else {
        let status = reply.status();
        wrong(
            "server",
            format!("{url}: {status}. Look at the server's log"),
            format!("{url}: {status}. Ins Protokoll des Servers sehen"),
        )
    }];
    found.push(clock(SystemTime::now(), date));
    if let Some(rest) = url.strip_prefix("https://") {
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(443)),
            _ => (authority, 443),
        };
        let pin = Keys::open(&config.keys).and_then(|keys| enrol::pin(config, &keys)).ok().flatten();
        // What is wrong with it was said by "server" above.
        if let Ok(seen) = lotse_trust::look_at(host, port, pin).await
            && let (Some(facts), None) = (seen.facts, seen.fault)
        {
            found.push(certificate(&facts));
        }
    }
    found
}

fn certificate(facts: &Facts) -> Finding {
    let (days, names) = (facts.days_left(SystemTime::now()), facts.names.join(", "));
    if days < FEW_DAYS {
        return wrong(
            "certificate",
            format!("runs out in {days} days. Tell the server's administrator"),
            format!("läuft in {days} Tagen ab. Die Administration des Servers verständigen"),
        );
    }
    fine("certificate", format!("for {names}, {days} days left"), format!("für {names}, noch {days} Tage gültig"))
}

/// Against common sense, and against the server where it answered.
fn clock(now: SystemTime, server: Option<i64>) -> Finding {
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
        let file = dir.path().join("file");
        std::fs::write(&file, b"").expect("file");
        let found = disk(&file.join("below"));
        assert!(!found.ok && found.en.contains("below") && found.de.contains("Benutzer"), "{}", found.en);
    }

    #[test]
    fn german_comes_from_the_system() {
        assert!(german(|n| (n == "LANG").then(|| "de_AT.UTF-8".into())));
        assert!(!german(|n| if n == "LANG" { Some("de_DE".into()) } else { Some("C".into()) }));
        assert!(!german(|_| None));
    }
}
