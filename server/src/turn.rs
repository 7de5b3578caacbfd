//! A coturn beside this server: credentials for browsers, and its settings.
//!
//! Credentials are of the kind coturn calls `use-auth-secret` (draft-uberti-behave-turn-rest): the user name is the time at which
//! they end, the password its HMAC under a secret that both programs read. Owns: `turn.secret` (0600) beside the other keys.
//! Never: talks to coturn.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use lotse_protocol::signal::IceServer;
use sha1::Sha1;

use crate::{
    config::{Config, host_of},
    error::Error,
    store::random,
};

const SECRET_FILE: &str = "turn.secret";
/// As long as a working day: a call in progress must not lose its relay.
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// Hands out credentials; empty without `turn.urls`.
#[derive(Clone)]
pub struct Turn {
    urls: Vec<String>,
    secret: String,
}

impl Turn {
    /// Reads the secret, or makes it, where a coturn is configured.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let urls = config.turn.urls.clone();
        let secret = if urls.is_empty() { String::new() } else { secret(&config.data.keys)? };
        Ok(Self { urls, secret })
    }

    /// What a browser needs, good for [`LIFE`] from `now_ms`. `who` only tells allocations apart in coturn's log.
    pub fn servers(&self, who: &str, now_ms: i64) -> Vec<IceServer> {
        if self.urls.is_empty() {
            return Vec::new();
        }
        let username = format!("{}:{who}", now_ms / 1000 + LIFE.as_secs() as i64);
        let credential = password(&self.secret, &username);
        vec![IceServer { urls: self.urls.clone(), username, credential }]
    }
}

fn password(secret: &str, username: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn secret(dir: &Path) -> Result<String, Error> {
    let path = dir.join(SECRET_FILE);
    let trouble = |e: std::io::Error| {
        Error::operator(format!("{}: {e}", path.display()), "Give data.keys to the user lotse-server runs as.")
    };
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(trouble(e)),
    }
    let fresh: String = random::<24>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::create_dir_all(dir).map_err(trouble)?;
    let mut file =
        std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path).map_err(trouble)?;
    file.write_all(fresh.as_bytes()).and_then(|()| file.sync_all()).map_err(trouble)?;
    Ok(fresh)
}

/// Prints the file that `turnserver -c` reads.
pub fn write_config(config: &Config, external: Option<IpAddr>) -> Result<(), Error> {
    if config.turn.urls.is_empty() {
        return Err(Error::operator(
            "turn.urls is empty",
            "Write the address browsers will use, e.g. urls = \"turn:turn.example.com:3478\", then ask again.",
        ));
    }
    let text = settings(config, &secret(&config.data.keys)?, external);
    write!(std::io::stdout(), "{text}").map_err(Error::from)
}

fn settings(config: &Config, secret: &str, external: Option<IpAddr>) -> String {
    let port_of = |url: &String| url.split('?').next()?.rsplit(':').next()?.parse::<u16>().ok();
    let plain = config.turn.urls.iter().find(|u| u.starts_with("turn:")).and_then(port_of).unwrap_or(3478);
    let tls = config.turn.urls.iter().find(|u| u.starts_with("turns:")).map(|u| port_of(u).unwrap_or(5349));
    let realm = match config.public_host() {
        "" => host_of(&config.turn.urls[0].replacen(':', "://", 1)).to_owned(),
        host => host.to_owned(),
    };
    let mut lines = vec![
        "# Settings of coturn for Lotse, made by `lotse-server admin turn-config`. Holds a secret: chmod 600."
            .to_owned(),
        format!("listening-port={plain}"),
        match tls {
            Some(port) => format!(
                "tls-listening-port={port}\n# Its own certificate:\n#cert=/etc/turn/cert.pem\n#pkey=/etc/turn/key.pem"
            ),
            None => "no-tls\nno-dtls".to_owned(),
        },
        format!("realm={realm}"),
        "fingerprint\nuse-auth-secret".to_owned(),
        format!("static-auth-secret={secret}"),
        "# Relays towards the server only: 49152 up, at most 600 at once.".to_owned(),
        "min-port=49152\nmax-port=50352\ntotal-quota=600\nuser-quota=12".to_owned(),
        "no-cli\nno-multicast-peers\nno-tcp-relay\nstale-nonce=600".to_owned(),
        "# Everything is out of reach but the server's media addresses.".to_owned(),
    ];
    if let Some(ip) = external {
        lines.push(format!("external-ip={ip}"));
    }
    lines.push("denied-peer-ip=0.0.0.0-255.255.255.255".to_owned());
    lines.push("denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".to_owned());
    if config.media.public_ip.iter().any(IpAddr::is_loopback) {
        lines.push("allow-loopback-peers".to_owned());
    }
    lines.extend(config.media.public_ip.iter().map(|ip| format!("allowed-peer-ip={ip}")));
    if config.media.public_ip.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)) {
        lines.push("# The server is on loopback: this serves trials on one machine only.".to_owned());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(urls: &str) -> Config {
        let urls = urls.to_owned();
        let env = move |k: &str| match k {
            "LOTSE_TURN_URLS" => Some(urls.clone()),
            "LOTSE_HTTP_PUBLIC_URL" => Some("https://lotse.example.org:8443".into()),
            "LOTSE_MEDIA_PUBLIC_IP" => Some("203.0.113.7, 2001:db8::7".into()),
            _ => None,
        };
        Config::load(None, env).expect("valid")
    }

    #[test]
    fn credentials_are_what_coturn_computes() {
        // echo -n 1700000000:u | openssl dgst -sha1 -hmac secret -binary | base64
        assert_eq!(password("secret", "1700000000:u"), PASSWORD_OF_OPENSSL);
        let turn = Turn { urls: vec!["turn:t:1".into()], secret: "secret".into() };
        let servers = turn.servers("u", 1_700_000_000_000 - LIFE.as_millis() as i64);
        assert_eq!(
            (servers[0].username.as_str(), servers[0].credential.as_str()),
            ("1700000000:u", PASSWORD_OF_OPENSSL)
        );
    }

    const PASSWORD_OF_OPENSSL: &str = "XG6B680Mf7Xc6AI7xZ5TSz0EUb4=";

    #[test]
    fn settings_open_the_way_to_the_media_addresses_only() {
        let text =
            settings(&config("turn:turn.example.org:3479?transport=udp, turns:turn.example.org:443"), "s3", None);
        for line in [
            "listening-port=3479",
            "tls-listening-port=443",
            "realm=lotse.example.org",
            "use-auth-secret",
            "static-auth-secret=s3",
            "denied-peer-ip=0.0.0.0-255.255.255.255",
            "allowed-peer-ip=203.0.113.7",
            "allowed-peer-ip=2001:db8::7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} missing in:\n{text}");
        }
        assert!(!text.contains("allow-loopback-peers"));
    }

    #[test]
    fn the_secret_is_made_once_and_kept_from_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let first = secret(dir.path()).expect("made");
        assert_eq!(first.len(), 48);
        assert_eq!(secret(dir.path()).expect("read"), first);
        let mode = std::fs::metadata(dir.path().join(SECRET_FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
