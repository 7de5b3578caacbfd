//! Settings: one TOML file, each key also from the environment, and a wrong value named with its remedy.
//!
//! Owns: names, defaults and checks of all settings. Never: opens anything they name.
//! Elsewhere: the annotated defaults (`server.toml`; a test holds both against each other).

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::error::Error;

/// Everything an operator can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub http: Http,
    pub tls: Tls,
    pub data: Data,
    pub media: Media,
    pub archive: Archive,
    pub pages: Pages,
    pub turn: Turn,
    pub metrics: Metrics,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    pub listen: SocketAddr,
    /// Without a trailing slash; empty: as `listen`.
    pub public_url: String,
}

/// Who speaks TLS on `http.listen`, and with which certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub from: TlsFrom,
    /// Certificate chain and key in PEM, for [`TlsFrom::Files`].
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Names and addresses besides those the other settings name.
    pub names: Vec<String>,
    pub acme_directory: String,
    pub acme_email: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFrom {
    /// Nobody here: loopback, or a proxy in front.
    None,
    Files,
    OwnCa,
    Acme,
}

impl FromStr for TlsFrom {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "" => Ok(Self::None),
            "files" => Ok(Self::Files),
            "own-ca" => Ok(Self::OwnCa),
            "acme" => Ok(Self::Acme),
            _ => Err(()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    pub dir: PathBuf,
    pub keys: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub udp_port: u16,
    pub workers: usize,
    /// Addresses offered to clients, the best first; at least one.
    pub public_ip: Vec<IpAddr>,
    /// Address of the sockets; `None`: follows from `public_ip`.
    pub bind: Option<IpAddr>,
    pub tcp_port: MediaTcp,
}

/// Under which port clients reach `http.listen` for media over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaTcp {
    /// The port of `http.listen`, unless a proxy stands in front.
    Auto,
    Off,
    Port(u16),
}

impl FromStr for MediaTcp {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            port => port.parse().ok().filter(|p| *p != 0).map(Self::Port).ok_or(()),
        }
    }
}

/// A coturn beside this server, for browsers that reach neither its UDP nor its TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `turn:host:port` and `turns:host:port`; empty: none.
    pub urls: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Without a trailing slash.
    pub url: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    pub dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// On this machine; empty: no metrics.
    pub listen: String,
}

/// `section.key` of every setting there is.
pub const KEYS: [&str; 19] = [
    "http.listen",
    "http.public_url",
    "tls.from",
    "tls.cert",
    "tls.key",
    "tls.names",
    "tls.acme_directory",
    "tls.acme_email",
    "data.dir",
    "data.keys",
    "media.udp_port",
    "media.workers",
    "media.public_ip",
    "media.bind",
    "media.tcp_port",
    "archive.url",
    "pages.dir",
    "turn.urls",
    "metrics.listen",
];

/// Where certificates come from when ACME is asked for without saying whom.
const ACME_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

impl Config {
    /// Reads `file` (or only defaults) and then the environment.
    pub fn load(file: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let (name, table) = match file {
            None => ("settings".to_owned(), toml::Table::new()),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|e| {
                    Error::operator(
                        format!("{name}: cannot be read: {e}"),
                        "Name an existing file with --config, or leave it out for the defaults.",
                    )
                })?;
                let table = text.parse().map_err(|e: toml::de::Error| {
                    Error::operator(format!("{name}: is not valid TOML: {e}"), "Correct that line.")
                })?;
                (name, table)
            }
        };
        let source = Source { file: name, table, env };
        source.refuse_unknown()?;
        let config = Self {
            http: Http {
                listen: source.parsed("http.listen", "127.0.0.1:8080", "an address and port such as 127.0.0.1:8080")?,
                public_url: source.text("http.public_url", "")?.trim_end_matches('/').to_owned(),
            },
            tls: Tls {
                from: source.parsed("tls.from", "", "one of files, own-ca, acme, or empty")?,
                cert: source.text("tls.cert", "")?.into(),
                key: source.text("tls.key", "")?.into(),
                names: source.list("tls.names", "", "a name or address without https://")?,
                acme_directory: source.text("tls.acme_directory", ACME_DIRECTORY)?,
                acme_email: source.text("tls.acme_email", "")?,
            },
            data: Data {
                dir: source.text("data.dir", "lotse-data")?.into(),
                keys: source.text("data.keys", "lotse-keys")?.into(),
            },
            media: Media {
                udp_port: source.parsed("media.udp_port", "40000", "a port from 0 (any free one) to 65535")?,
                workers: source.parsed("media.workers", "0", "a number of workers, 0 for one on each core")?,
                public_ip: source.list("media.public_ip", "127.0.0.1", "an IP address such as 192.0.2.10")?,
                bind: match source.text("media.bind", "")?.is_empty() {
                    true => None,
                    false => Some(source.parsed("media.bind", "", "an IP address such as 0.0.0.0")?),
                },
                tcp_port: source.parsed("media.tcp_port", "auto", "auto, off, or a port from 1 to 65535")?,
            },
            archive: Archive {
                url: source.text("archive.url", "http://127.0.0.1:8081")?.trim_end_matches('/').to_owned(),
            },
            pages: Pages { dir: source.text("pages.dir", "")?.into() },
            turn: Turn { urls: source.list("turn.urls", "", "an address such as turn:turn.example.com:3478")? },
            metrics: Metrics { listen: source.text("metrics.listen", "")? },
        };
        source.check(&config)?;
        lotse_operations::metrics::address(&config.metrics.listen)?;
        Ok(config)
    }

    /// Do clients come by https, whoever speaks TLS?
    pub fn is_https(&self) -> bool {
        self.tls.from != TlsFrom::None || self.http.public_url.starts_with("https://")
    }

    /// How people reach this server, without a trailing slash. `listen` is the address in use.
    pub fn url(&self, listen: SocketAddr) -> String {
        if !self.http.public_url.is_empty() {
            return self.http.public_url.clone();
        }
        let scheme = if self.tls.from == TlsFrom::None { "http" } else { "https" };
        let reachable = if listen.ip().is_unspecified() { self.media.public_ip.first() } else { None };
        format!("{scheme}://{}", SocketAddr::new(reachable.copied().unwrap_or(listen.ip()), listen.port()))
    }

    /// Host part of the public address; empty without one.
    pub fn public_host(&self) -> &str {
        host_of(&self.http.public_url)
    }

    /// Every name and address a certificate of this server is for, each once.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.tls.names.clone();
        names.extend(Some(self.public_host().to_owned()).filter(|host| !host.is_empty()));
        let listen = self.http.listen.ip();
        names.extend(
            self.media.public_ip.iter().chain((!listen.is_unspecified()).then_some(&listen)).map(IpAddr::to_string),
        );
        names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let mut once = Vec::new();
        for name in names {
            if !once.contains(&name) {
                once.push(name);
            }
        }
        once
    }

    /// The names an ACME authority is asked for: addresses and names of the house get none.
    pub fn acme_names(&self) -> Vec<String> {
        let is_domain = |n: &String| n.contains('.') && n.parse::<IpAddr>().is_err();
        self.names().into_iter().filter(is_domain).collect()
    }

    /// What the media sockets are bound to: loopback stays on loopback, else all addresses of the families that are public.
    pub fn media_bind(&self) -> IpAddr {
        let public = &self.media.public_ip;
        self.media.bind.unwrap_or_else(|| match public.first() {
            Some(only) if public.iter().all(IpAddr::is_loopback) && public.len() == 1 => *only,
            _ if public.iter().any(IpAddr::is_ipv6) => IpAddr::from([0u16; 8]),
            _ => IpAddr::from([0u8; 4]),
        })
    }

    /// The port to offer for media over TCP. Behind a proxy none, unless one is named: a proxy hands no such connection on.
    pub fn media_tcp_port(&self, listen: SocketAddr) -> Option<u16> {
        match self.media.tcp_port {
            MediaTcp::Off => None,
            MediaTcp::Port(port) => Some(port),
            MediaTcp::Auto => (self.tls.from != TlsFrom::None || !self.is_https()).then_some(listen.port()),
        }
    }
}

/// `https://host:port/…` without all but the host; brackets of an IPv6 address go as well.
pub fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or("");
    match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split(':').next().unwrap_or(""),
    }
}

struct Source<E> {
    file: String,
    table: toml::Table,
    env: E,
}

impl<E: Fn(&str) -> Option<String>> Source<E> {
    /// Value and where it came from, for messages.
    fn value(&self, key: &str) -> Result<Option<(String, String)>, Error> {
        let variable = format!("LOTSE_{}", key.replace('.', "_").to_uppercase());
        if let Some(value) = (self.env)(&variable) {
            return Ok(Some((value, variable)));
        }
        let Some((section, name)) = key.split_once('.') else { return Ok(None) };
        let place = format!("{}: [{section}] {name}", self.file);
        match self.table.get(section).and_then(|s| s.get(name)) {
            None => Ok(None),
            Some(toml::Value::String(s)) => Ok(Some((s.clone(), place))),
            Some(toml::Value::Integer(n)) => Ok(Some((n.to_string(), place))),
            Some(other) => Err(Error::operator(
                format!("{place} = {other}: is neither text nor a whole number"),
                "Write it as server.toml shows.",
            )),
        }
    }

    fn text(&self, key: &str, default: &str) -> Result<String, Error> {
        Ok(self.value(key)?.map_or_else(|| default.to_owned(), |(value, _)| value))
    }

    fn parsed<T: FromStr>(&self, key: &str, default: &str, what: &str) -> Result<T, Error> {
        let (value, place) = self.value(key)?.unwrap_or_else(|| (default.to_owned(), key.to_owned()));
        value.parse().map_err(|_| {
            Error::operator(format!("{place} = {value}: is not {what}"), format!("Write {what}, or remove the line."))
        })
    }

    /// Comma-separated; spaces do not count.
    fn list<T: FromStr>(&self, key: &str, default: &str, what: &str) -> Result<Vec<T>, Error> {
        let (value, place) = self.value(key)?.unwrap_or_else(|| (default.to_owned(), key.to_owned()));
        let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .map(|part| {
                part.parse().map_err(|_| {
                    let remedy = format!("Write {what}; several with commas between them.");
                    Error::operator(format!("{place} = {value}: {part} is not {what}"), remedy)
                })
            })
            .collect()
    }

    fn refuse_unknown(&self) -> Result<(), Error> {
        for (section, value) in &self.table {
            let names = value.as_table().into_iter().flat_map(|t| t.keys());
            let known = KEYS.iter().any(|k| k.split('.').next() == Some(section));
            let unknown = names.map(|n| format!("{section}.{n}")).find(|k| !KEYS.contains(&k.as_str()));
            if let Some(key) = unknown.or_else(|| (!known).then(|| section.clone())) {
                return Err(Error::operator(
                    format!("{}: {key} is not a setting", self.file),
                    format!("Settings are {}.", KEYS.join(", ")),
                ));
            }
        }
        Ok(())
    }

    fn check(&self, config: &Config) -> Result<(), Error> {
        let place = |key: &str| match self.value(key) {
            Ok(Some((_, place))) => place,
            _ => key.to_owned(),
        };
        for (key, url) in [("http.public_url", &config.http.public_url), ("archive.url", &config.archive.url)] {
            let may_be_empty = key == "http.public_url";
            let fine = url.starts_with("http://") || url.starts_with("https://") || (url.is_empty() && may_be_empty);
            if !fine {
                return Err(Error::operator(
                    format!("{} = {url}: is not a web address", place(key)),
                    "Write it with http:// or https:// in front.",
                ));
            }
        }
        let listen = config.http.listen;
        if !listen.ip().is_loopback() && !config.is_https() {
            return Err(Error::operator(
                format!("{} = {listen}: others could reach this without TLS", place("http.listen")),
                "Set [tls] from, or put a TLS proxy in front and write its https:// address to http.public_url, or listen \
                 on 127.0.0.1.",
            ));
        }
        self.check_tls(config, &place)?;
        self.check_media(config, &place)?;
        for url in &config.turn.urls {
            if !url.starts_with("turn:") && !url.starts_with("turns:") {
                return Err(Error::operator(
                    format!("{} = {url}: is not the address of a TURN server", place("turn.urls")),
                    "Write turn:host:port or turns:host:port; several with commas between them.",
                ));
            }
        }
        Ok(())
    }

    fn check_tls(&self, config: &Config, place: &impl Fn(&str) -> String) -> Result<(), Error> {
        let tls = &config.tls;
        if tls.from != TlsFrom::None && config.http.public_url.starts_with("http://") {
            return Err(Error::operator(
                format!("{} = {}: but [tls] from is set", place("http.public_url"), config.http.public_url),
                "Write it with https:// in front.",
            ));
        }
        for (key, path) in [("tls.cert", &tls.cert), ("tls.key", &tls.key)] {
            if tls.from == TlsFrom::Files && path.as_os_str().is_empty() {
                return Err(Error::operator(
                    format!("{}: is empty, but [tls] from = \"files\" needs it", place(key)),
                    "Name the PEM file.",
                ));
            }
        }
        if let Some(odd) =
            tls.names.iter().find(|n| n.contains(['/', ' ', '[']) || (n.contains(':') && n.parse::<IpAddr>().is_err()))
        {
            return Err(Error::operator(
                format!("{} = {odd}: is neither a name nor an address", place("tls.names")),
                "Write it without https:// and without a port.",
            ));
        }
        let domains = config.acme_names();
        if tls.from == TlsFrom::Acme && domains.is_empty() {
            return Err(Error::operator(
                format!("{}: names no domain, and an ACME authority signs no addresses", place("tls.names")),
                "Write the public name of this server to tls.names or http.public_url.",
            ));
        }
        Ok(())
    }

    fn check_media(&self, config: &Config, place: &impl Fn(&str) -> String) -> Result<(), Error> {
        let media = &config.media;
        let nowhere = media.public_ip.iter().find(|ip| ip.is_unspecified() || ip.is_multicast());
        if media.public_ip.is_empty() || nowhere.is_some() {
            let said = nowhere.map_or_else(|| "(empty)".to_owned(), IpAddr::to_string);
            return Err(Error::operator(
                format!("{} = {said}: nobody can send there", place("media.public_ip")),
                "Write the address that glasses and browsers reach this machine under; several with commas between them.",
            ));
        }
        let bind = config.media_bind();
        if let Some(other) = media.public_ip.iter().find(|ip| bind.is_ipv4() && ip.is_ipv6()) {
            return Err(Error::operator(
                format!("{} = {bind}: {other} in media.public_ip cannot lead there", place("media.bind")),
                "Write :: for both families, or leave the line out.",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("server.toml");
        std::fs::write(&file, text).expect("a file in it");
        Config::load(Some(&file), |_| None)
    }

    #[test]
    fn the_annotated_file_says_the_defaults_and_names_every_key() {
        let text = include_str!("../server.toml");
        assert_eq!(with_file(text).expect("valid"), Config::load(None, |_| None).expect("valid"));
        for key in KEYS {
            let name = key.split('.').nth(1).expect("section.key");
            assert!(text.lines().any(|l| l.starts_with(&format!("{name} ="))), "{key} is not in server.toml");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = Config::load(None, |k| (k == "LOTSE_HTTP_LISTEN").then(|| "127.0.0.1:0".into())).expect("valid");
        assert_eq!(config.http.listen.port(), 0);
    }

    #[test]
    fn a_wrong_value_names_file_key_value_and_remedy() {
        let said = with_file("[media]\nudp_port = 99999").expect_err("not a port").to_string();
        for word in ["server.toml", "[media] udp_port", "99999", "Write a port"] {
            assert!(said.contains(word), "{word} missing in: {said}");
        }
        let said = Config::load(None, |k| (k == "LOTSE_MEDIA_PUBLIC_IP").then(|| "here".into()))
            .expect_err("not an address")
            .to_string();
        assert!(said.contains("LOTSE_MEDIA_PUBLIC_IP = here"), "{said}");
    }

    #[test]
    fn unknown_settings_and_open_doors_are_refused() {
        assert!(with_file("[http]\nlisten_on = 'x'").expect_err("unknown key").to_string().contains("http.listen_on"));
        assert!(with_file("[smtp]\n").expect_err("unknown section").to_string().contains("smtp"));
        assert!(with_file("[http]\nlisten = '0.0.0.0:8080'").expect_err("no TLS").to_string().contains("TLS"));
        with_file("[http]\nlisten = '0.0.0.0:8080'\npublic_url = 'https://a.example/'").expect("behind a proxy");
        with_file("[http]\nlisten = '0.0.0.0:8080'\n[tls]\nfrom = 'own-ca'").expect("TLS of our own");
    }

    #[test]
    fn tls_and_media_settings_that_cannot_work_are_refused_with_their_remedy() {
        for (text, words) in [
            ("[tls]\nfrom = 'magic'", ["[tls] from", "own-ca"]),
            ("[tls]\nfrom = 'files'\ncert = 'a.pem'", ["tls.key", "PEM"]),
            ("[tls]\nfrom = 'acme'", ["tls.names", "public name"]),
            ("[tls]\nfrom = 'own-ca'\nnames = 'https://a.example'", ["[tls] names", "without https://"]),
            ("[http]\npublic_url = 'http://a.example'\n[tls]\nfrom = 'own-ca'", ["public_url", "https://"]),
            ("[media]\npublic_ip = '192.0.2.1, here'", ["[media] public_ip", "here"]),
            ("[media]\npublic_ip = ''", ["[media] public_ip", "nobody"]),
            ("[media]\npublic_ip = '0.0.0.0'", ["[media] public_ip", "nobody"]),
            ("[media]\npublic_ip = '2001:db8::1'\nbind = '0.0.0.0'", ["[media] bind", "::"]),
            ("[media]\nbind = 'all'", ["[media] bind", "IP address"]),
            ("[media]\ntcp_port = 0", ["[media] tcp_port", "auto"]),
            ("[turn]\nurls = 'https://turn.example'", ["[turn] urls", "turn:host:port"]),
        ] {
            let said = with_file(text).expect_err(text).to_string();
            assert!(words.iter().all(|w| said.contains(w)), "{text}: {said}");
        }
    }

    #[test]
    fn names_addresses_and_ports_follow_from_few_settings() {
        let config = with_file(
            "[http]\nlisten = '0.0.0.0:8443'\npublic_url = 'https://lotse.example:443'\n\
             [tls]\nfrom = 'own-ca'\nnames = 'pump.local'\n[media]\npublic_ip = '192.168.1.5, 203.0.113.7, 2001:db8::7'",
        )
        .expect("valid");
        let names =
            ["pump.local", "lotse.example", "192.168.1.5", "203.0.113.7", "2001:db8::7", "localhost", "127.0.0.1"];
        assert_eq!(config.names(), names);
        assert_eq!(config.media_bind(), IpAddr::from([0u16; 8]));
        let listen = config.http.listen;
        assert_eq!(config.media_tcp_port(listen), Some(8443));
        assert_eq!(config.url(listen), "https://lotse.example:443");
        let proxied = with_file("[http]\npublic_url = 'https://a.example'").expect("valid");
        assert_eq!(proxied.media_tcp_port(proxied.http.listen), None, "a proxy hands no media on");
        let lan = with_file("[http]\nlisten = '0.0.0.0:8443'\n[tls]\nfrom = 'own-ca'\n[media]\npublic_ip = '10.0.0.5'");
        let lan = lan.expect("valid");
        assert_eq!((lan.url(lan.http.listen).as_str(), lan.media_bind()), ("https://10.0.0.5:8443", [0u8; 4].into()));
        assert_eq!(host_of("https://[2001:db8::1]:8443/x"), "2001:db8::1");
        let demo = Config::load(None, |_| None).expect("valid");
        assert_eq!(
            (demo.media_bind(), demo.names()),
            ([127, 0, 0, 1].into(), vec!["127.0.0.1".into(), "localhost".into()])
        );
    }
}
