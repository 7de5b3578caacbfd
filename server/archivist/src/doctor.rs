//! `lotse-archivist doctor`: looks at everything a recording needs and says what is wrong, with its remedy.
//!
//! Never: changes anything but a file it writes and removes to try a folder.

use std::path::Path;

use crate::{config::Config, keys::Keys};

/// Below this much free space a recording of a day may not fit, bytes: 10 GiB.
const LITTLE: u64 = 10 << 30;

/// Prints one line for each thing looked at. Returns whether all is well.
pub async fn run(config: &Config) -> bool {
    let mut well = true;
    let mut say = |ok: bool, what: &str, detail: String| {
        println!("{} {what}: {detail}", if ok { "ok   " } else { "WRONG" });
        well &= ok;
    };
    match try_folder(&config.data) {
        Ok(free) if free < LITTLE => say(
            false,
            "data",
            format!("{} has only {} MiB free. Make room or move [data] dir.", config.data.display(), free >> 20),
        ),
        Ok(free) => say(true, "data", format!("{} is writable, {} GiB free", config.data.display(), free >> 30)),
        Err(e) => {
            say(false, "data", format!("{}: {e}. Give it to the user lotse-archivist runs as.", config.data.display()))
        }
    }
    match Keys::open(&config.keys).and_then(|k| k.enrolment()) {
        Ok(Some(e)) => say(true, "keys", format!("paired as device {}", e.device)),
        Ok(None) if config.pairing_code.is_empty() => {
            say(false, "keys", "not paired. Set [server] pairing_code for one start.".into())
        }
        Ok(None) => say(true, "keys", "not paired yet; a pairing code is set".into()),
        Err(e) => say(false, "keys", e.to_string()),
    }
    match tokio::net::TcpListener::bind(config.listen).await {
        Ok(_) => say(true, "http", format!("{} is free", config.listen)),
        Err(e) => say(
            false,
            "http",
            format!(
                "{}: {e}. Choose another [http] listen, or stop what uses it (this archivist, if it runs).",
                config.listen
            ),
        ),
    }
    let url = format!("{}/healthz", config.server_url);
    match reqwest::get(&url).await {
        Ok(r) if r.status().is_success() => say(true, "server", format!("{} answers", config.server_url)),
        Ok(r) => say(false, "server", format!("{url}: {}. Look at the server's log.", r.status())),
        Err(e) => say(false, "server", format!("{e}. Start lotse-server or correct [server] url.")),
    }
    well
}

/// Writes and removes a file; returns the free space.
fn try_folder(dir: &Path) -> std::io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let probe = dir.join(".probe");
    std::fs::write(&probe, b"x")?;
    std::fs::remove_file(&probe)?;
    Ok(lotse_operations::disk::space(dir)?.free)
}
