//! Settings: one TOML file, each key also from the environment, and a wrong value named with its remedy.
//!
//! Owns: names, defaults and checks of all settings. Never: opens anything they name.
//! Elsewhere: the annotated defaults (`archivist.toml`; a test holds both against each other).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::error::{ArchivistError, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Without a trailing slash.
    pub server_url: String,
    pub pairing_code: String,
    pub name: String,
    pub listen: SocketAddr,
    pub data: PathBuf,
    pub keys: PathBuf,
    /// Empty: no metrics.
    pub metrics_listen: String,
}

/// Section, key and default of every setting there is.
const SETTINGS: [(&str, &str, &str); 7] = [
    ("server", "url", "http://127.0.0.1:8080"),
    ("server", "pairing_code", ""),
    ("archivist", "name", "Archivist"),
    ("http", "listen", "127.0.0.1:8081"),
    ("data", "dir", "lotse-archive"),
    ("data", "keys", "lotse-archivist-keys"),
    ("metrics", "listen", ""),
];

impl Config {
    /// Reads `file` (or only defaults), then the environment.
    pub fn load(file: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let name = file.map_or("settings".to_owned(), |p| p.display().to_string());
        let wrong = |section: &str, key: &str, value: &str, why: &str, remedy: &'static str| {
            let known = SETTINGS.iter().find(|s| s.0 == section).map_or("?", |s| s.0);
            let known_key = SETTINGS.iter().find(|s| s.0 == section && s.1 == key).map_or("?", |s| s.1);
            ArchivistError::Setting {
                file: name.clone(),
                section: known,
                key: known_key,
                value: value.to_owned(),
                why: why.to_owned(),
                remedy,
            }
        };
        let table: toml::Table = match file {
            None => toml::Table::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ArchivistError::Disk {
                    what: "the settings file",
                    path: path.to_owned(),
                    source,
                    remedy: "Name an existing file with --config, or leave it out for the defaults.",
                })?
                .parse()
                .map_err(|e: toml::de::Error| wrong("?", "?", "", &e.to_string(), "Correct that line."))?,
        };
        for (section, value) in &table {
            let keys = value.as_table().map(|t| t.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
            for key in keys {
                if !SETTINGS.iter().any(|s| s.0 == section && s.1 == key) {
                    return Err(wrong(
                        section,
                        &key,
                        &format!("[{section}] {key}"),
                        "there is no such key",
                        "archivist.toml lists all keys.",
                    ));
                }
            }
        }
        let text = |section: &'static str, key: &'static str| -> Result<String> {
            if let Some(value) = env(&format!("LOTSE_{}_{}", section.to_uppercase(), key.to_uppercase())) {
                return Ok(value);
            }
            match table.get(section).and_then(|s| s.get(key)) {
                Some(toml::Value::String(s)) => Ok(s.clone()),
                Some(other) => {
                    Err(wrong(section, key, &other.to_string(), "it is not text", "Write it in double quotes."))
                }
                None => Ok(SETTINGS.iter().find(|s| s.0 == section && s.1 == key).map_or("", |s| s.2).to_owned()),
            }
        };
        let listen = text("http", "listen")?;
        let server_url = text("server", "url")?.trim_end_matches('/').to_owned();
        if !server_url.starts_with("http://") {
            return Err(wrong(
                "server",
                "url",
                &server_url,
                "it must begin with http://",
                "Write e.g. http://127.0.0.1:8080; encryption beyond one machine is a tunnel's or proxy's work.",
            ));
        }
        let config = Self {
            server_url,
            pairing_code: text("server", "pairing_code")?,
            name: text("archivist", "name")?,
            listen: listen.parse().map_err(|_| {
                wrong("http", "listen", &listen, "it is not an address with a port", "Write e.g. 127.0.0.1:8081.")
            })?,
            data: text("data", "dir")?.into(),
            keys: text("data", "keys")?.into(),
            metrics_listen: text("metrics", "listen")?,
        };
        lotse_operations::metrics::address(&config.metrics_listen)?;
        if config.keys.starts_with(&config.data) {
            let keys = config.keys.display().to_string();
            return Err(wrong(
                "data",
                "keys",
                &keys,
                "it lies inside [data] dir",
                "Name a folder outside, so that a copy of the data opens nothing.",
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotated_file_names_every_key_with_its_default() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("archivist.toml");
        let from_file = Config::load(Some(&file), |_| None).unwrap();
        assert_eq!(from_file, Config::load(None, |_| None).unwrap());
        let table: toml::Table = std::fs::read_to_string(file).unwrap().parse().unwrap();
        for (section, key, _) in SETTINGS {
            assert!(table[section].get(key).is_some(), "[{section}] {key} is missing");
        }
    }

    #[test]
    fn the_environment_wins_and_a_wrong_value_names_its_remedy() {
        let env = |k: &str| (k == "LOTSE_HTTP_LISTEN").then(|| "127.0.0.1:0".to_owned());
        assert_eq!(Config::load(None, env).unwrap().listen.port(), 0);
        let bad = |k: &str| (k == "LOTSE_HTTP_LISTEN").then(|| "here".to_owned());
        let error = Config::load(None, bad).unwrap_err().to_string();
        assert!(error.contains("listen") && error.contains("127.0.0.1:8081"), "{error}");
        let inside = |k: &str| (k == "LOTSE_DATA_KEYS").then(|| "lotse-archive/keys".to_owned());
        assert!(Config::load(None, inside).is_err());
    }
}
