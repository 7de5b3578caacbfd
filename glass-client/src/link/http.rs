//! The few HTTP requests of the glasses: enrol, get a token, open a case, fetch a large item.

use std::{sync::Arc, time::Duration};

use lotse_payload::CaseCard;
use lotse_protocol::{
    command::{CaseSummary, MAX_ITEM_BYTES},
    envelope,
    error::ErrorBody,
    id::{CaseId, Digest, PublicKey},
};
use lotse_trust::{Fault, Pin, TrustError, split_code};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::Mutex;
use tokio_tungstenite::Connector;

use super::identity::{Enrolled, Identity};
use crate::{
    config::{Config, Language},
    error::GlassError,
};

/// Longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(10);
/// A token is renewed this long before it ends, ms.
const EARLY_MS: i64 = 60_000;

/// Talks to one server as one device.
#[derive(Clone)]
pub struct Api {
    url: String,
    client: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
    config: Config,
    identity: Arc<Identity>,
    token: Arc<Mutex<Option<Token>>>,
    /// Whose glasses these are, as the server says.
    person: Arc<std::sync::OnceLock<String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Token {
    token: String,
    expires_ms: i64,
}

#[derive(Deserialize)]
struct Paired {
    device: String,
    server_key: PublicKey,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Registers {
    customers: Vec<Register>,
    sites: Vec<Register>,
    assets: Vec<Register>,
}

#[derive(Deserialize)]
struct Register {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Me {
    name: String,
}

#[derive(Deserialize)]
struct Challenge {
    nonce: String,
}

impl Api {
    pub fn new(config: &Config, identity: Arc<Identity>) -> Result<Self, GlassError> {
        let url = config.server.url.trim_end_matches('/').to_owned();
        let tls = lotse_trust::client_config(pin(config, &identity)?).map_err(|e| GlassError::Ours(e.to_string()))?;
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .tls_backend_preconfigured(tls.clone())
            .build()
            .map_err(|e| GlassError::Ours(e.to_string()))?;
        let tls = Arc::new(tls);
        Ok(Self { url, client, tls, config: config.clone(), identity, token: Arc::default(), person: Arc::default() })
    }

    /// How the live socket speaks TLS: with the same trust as everything else.
    pub fn connector(&self) -> Connector {
        Connector::Rustls(self.tls.clone())
    }

    /// Where the live socket is.
    pub fn live_url(&self) -> String {
        // "http…" becomes "ws…".
        format!("ws{}/api/v1/live", self.url.trim_start_matches("http"))
    }

    /// A token that is good for a minute at least; enrols first where that was not done yet.
    pub async fn token(&self, now_ms: i64) -> Result<String, GlassError> {
        let mut kept = self.token.lock().await;
        if let Some(t) = kept.as_ref().filter(|t| t.expires_ms - EARLY_MS > now_ms) {
            return Ok(t.token.clone());
        }
        let device = match self.identity.enrolled() {
            Some(e) => e.device,
            None => self.pair().await?,
        };
        let challenge: Challenge = self.post("devices/challenge", None, &json!({ "device": device })).await?;
        let words = format!("lotse-token-v1 {device} {}", challenge.nonce);
        let sig = envelope::sign(self.identity.key(), &words);
        let body = json!({ "device": device, "nonce": challenge.nonce, "sig": sig });
        let token: Token = self.post("devices/token", None, &body).await?;
        *kept = Some(token.clone());
        Ok(token.token)
    }

    /// Asks once whose glasses these are; without an answer the settings name them.
    pub async fn learn_person(&self, token: &str) {
        if self.person.get().is_some() {
            return;
        }
        let request = self.client.get(format!("{}/api/v1/me", self.url)).bearer_auth(token);
        let reply = match request.send().await.and_then(reqwest::Response::error_for_status) {
            Ok(reply) => reply.json::<Me>().await,
            Err(e) => Err(e),
        };
        match reply {
            // Set twice at most, with the same name.
            Ok(me) => drop(self.person.set(me.name)),
            Err(e) => tracing::warn!("whose glasses these are is not known: {e}"),
        }
    }

    /// The person wearing these glasses: the settings' word, else the account's name, else the device's.
    pub fn person(&self) -> &str {
        let device = &self.config.device;
        if !device.wearer.is_empty() {
            return &device.wearer;
        }
        self.person.get().unwrap_or(&device.name)
    }

    /// The token was refused: the next one is fresh.
    pub async fn forget_token(&self) {
        *self.token.lock().await = None;
    }

    async fn pair(&self) -> Result<String, GlassError> {
        if self.config.server.pairing_code.is_empty() {
            return Err(GlassError::NotPaired);
        }
        let (code, pin) = split_code(&self.config.server.pairing_code).map_err(bad_code)?;
        let body = json!({
            "code": code,
            "public_key": self.identity.public_key(),
            "name": self.config.device.name,
        });
        let paired: Paired = self.post("devices/pair", None, &body).await?;
        let pin = pin.map(|pin| pin.to_string());
        self.identity.enrol(Enrolled { device: paired.device.clone(), server_key: paired.server_key, pin });
        Ok(paired.device)
    }

    /// Opens a new case with what the settings say about it. Ids the registers do not know are left out: help must not
    /// wait for a corrected setting.
    pub async fn open_case(&self, now_ms: i64) -> Result<CaseSummary, GlassError> {
        let token = self.token(now_ms).await?;
        let call = &self.config.call;
        let plain = json!({ "language": self.config.hud.language.code() });
        let mut body = plain.clone();
        for (key, value) in [("asset", &call.asset), ("customer", &call.customer), ("site", &call.site)] {
            if !value.is_empty() {
                body[key] = json!(value);
            }
        }
        match self.post("cases", Some(&token), &body).await {
            Err(GlassError::Refused { code, message, .. }) if code == "no_such_register" => {
                tracing::warn!("[call] asset, customer, site: {message} The case is opened without them.");
                self.post("cases", Some(&token), &plain).await
            }
            other => other,
        }
    }

    /// The words for what the case is about: names from the registers where they are known, the settings' words elsewhere.
    pub async fn card(&self, case: &CaseSummary, now_ms: i64) -> CaseCard {
        let registers = self.registers(now_ms).await.unwrap_or_else(|e| {
            tracing::warn!("{e}");
            Registers::default()
        });
        let call = &self.config.call;
        let name = |list: &[Register], id: &Option<String>, words: &str| {
            let found = list.iter().find(|r| Some(&r.id) == id.as_ref()).map(|r| r.name.clone());
            found.unwrap_or_else(|| words.to_owned())
        };
        CaseCard {
            title: call.title.clone(),
            asset: name(&registers.assets, &case.asset, &call.asset),
            customer: name(&registers.customers, &case.customer, &call.customer),
            site: name(&registers.sites, &case.site, &call.site),
        }
    }

    async fn registers(&self, now_ms: i64) -> Result<Registers, GlassError> {
        let token = self.token(now_ms).await?;
        let request = self.client.get(format!("{}/api/v1/registers", self.url)).bearer_auth(token);
        let reply =
            request.header("accept-language", self.language()).send().await.map_err(|e| self.unreachable(&e))?;
        if !reply.status().is_success() {
            return Err(refused(reply).await);
        }
        reply.json().await.map_err(|e| self.unreachable(&e))
    }

    /// Does the server answer? The time it gives, seconds since 1970.
    pub async fn health(&self) -> Result<Option<i64>, GlassError> {
        let reply = self.client.get(format!("{}/readyz", self.url)).send().await.map_err(|e| self.unreachable(&e))?;
        let status = reply.status();
        if status.is_success() {
            let date = reply.headers().get(reqwest::header::DATE).and_then(|d| d.to_str().ok());
            return Ok(date.and_then(|d| jiff::fmt::rfc2822::parse(d).ok()).map(|d| d.timestamp().as_second()));
        }
        Err(GlassError::Unreachable { url: self.url.clone(), why: format!("not ready ({status})") })
    }

    /// Sealed bytes of an item.
    pub async fn item(&self, case: CaseId, digest: Digest, now_ms: i64) -> Result<Vec<u8>, GlassError> {
        let token = self.token(now_ms).await?;
        let url = format!("{}/api/v1/cases/{case}/items/{digest}", self.url);
        let request = self.client.get(url).bearer_auth(token).header("accept-language", self.language());
        let reply = request.send().await.map_err(|e| self.unreachable(&e))?;
        if reply.content_length().is_some_and(|n| n > MAX_ITEM_BYTES as u64) {
            return Err(GlassError::Ours("an item larger than any may be".into()));
        }
        if !reply.status().is_success() {
            return Err(refused(reply).await);
        }
        reply.bytes().await.map(Vec::from).map_err(|e| self.unreachable(&e))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&str>,
        body: &serde_json::Value,
    ) -> Result<T, GlassError> {
        let mut request = self.client.post(format!("{}/api/v1/{path}", self.url)).json(body);
        request = request.header("accept-language", self.language());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let reply = request.send().await.map_err(|e| self.unreachable(&e))?;
        if !reply.status().is_success() {
            return Err(refused(reply).await);
        }
        reply.json().await.map_err(|e| self.unreachable(&e))
    }

    fn language(&self) -> &'static str {
        self.config.hud.language.code()
    }

    /// What is wrong with the server's certificate, in the wearer's language.
    pub fn fault_words(&self, fault: &Fault) -> String {
        fault.sentence(self.config.hud.language == Language::De)
    }

    fn unreachable(&self, e: &reqwest::Error) -> GlassError {
        if let Some(fault) = Fault::find(e) {
            return GlassError::Distrusted { url: self.url.clone(), why: self.fault_words(&fault) };
        }
        // The inner cause ("connection refused") says more than the outer words.
        let mut why: &dyn std::error::Error = e;
        while let Some(inner) = why.source() {
            why = inner;
        }
        GlassError::Unreachable { url: self.url.clone(), why: why.to_string() }
    }
}

/// The pin these glasses were enrolled with; before that, the one in the pairing code.
pub(crate) fn pin(config: &Config, identity: &Identity) -> Result<Option<Pin>, GlassError> {
    match identity.enrolled() {
        Some(enrolled) => enrolled.pin.map(|pin| pin.parse()).transpose().map_err(bad_code),
        None => Ok(split_code(&config.server.pairing_code).map_err(bad_code)?.1),
    }
}

fn bad_code(e: TrustError) -> GlassError {
    GlassError::Setting {
        place: "settings".into(),
        key: "[server] pairing_code".into(),
        value: "(the code)".into(),
        why: e.to_string(),
        remedy: "Copy the whole code, with what stands behind the dot; an administrator can make a new one.",
    }
}

async fn refused(reply: reqwest::Response) -> GlassError {
    let status = reply.status();
    match reply.json::<ErrorBody>().await {
        Ok(body) => GlassError::Refused {
            code: body.error.code,
            message: body.error.message,
            request_id: body.error.request_id,
        },
        Err(_) => GlassError::Refused {
            code: status.as_u16().to_string(),
            message: status.to_string(),
            request_id: "none".into(),
        },
    }
}
