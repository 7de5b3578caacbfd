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
    pub data: Data,
    pub media: Media,
    pub archive: Archive,
    pub pages: Pages,
    pub metrics: Metrics,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    pub listen: SocketAddr,
    /// Without a trailing slash; empty: as `listen`.
    pub public_url: String,
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
    pub public_ip: IpAddr,
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
pub const KEYS: [&str; 10] = [
    "http.listen",
    "http.public_url",
    "data.dir",
    "data.keys",
    "media.udp_port",
    "media.workers",
    "media.public_ip",
    "archive.url",
    "pages.dir",
    "metrics.listen",
];

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
            data: Data {
                dir: source.text("data.dir", "lotse-data")?.into(),
                keys: source.text("data.keys", "lotse-keys")?.into(),
            },
            media: Media {
                udp_port: source.parsed("media.udp_port", "40000", "a port from 0 (any free one) to 65535")?,
                workers: source.parsed("media.workers", "0", "a number of workers, 0 for one on each core")?,
                public_ip: source.parsed("media.public_ip", "127.0.0.1", "an IP address such as 192.0.2.10")?,
            },
            archive: Archive {
                url: source.text("archive.url", "http://127.0.0.1:8081")?.trim_end_matches('/').to_owned(),
            },
            pages: Pages { dir: source.text("pages.dir", "")?.into() },
            metrics: Metrics { listen: source.text("metrics.listen", "")? },
        };
        source.check(&config)?;
        lotse_operations::metrics::address(&config.metrics.listen)?;
        Ok(config)
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
        if !config.http.listen.ip().is_loopback() && !config.http.public_url.starts_with("https://") {
            return Err(Error::operator(
                format!("{} = {}: others could reach this without TLS", place("http.listen"), config.http.listen),
                "Put a TLS proxy in front and write its https:// address to http.public_url, or listen on 127.0.0.1.",
            ));
        }
        if config.media.public_ip.is_unspecified() {
            return Err(Error::operator(
                format!("{} = {}: nobody can send there", place("media.public_ip"), config.media.public_ip),
                "Write the address that glasses and browsers reach this machine under.",
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
    }
}
