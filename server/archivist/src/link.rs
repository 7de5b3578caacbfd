//! The live socket to the server: connects, keeps trying, measures the clocks.
//!
//! Owns: the WebSocket, the reconnect policy and the offset between this machine's clock and the server's.
//! Never: remembers what was not sent; after [`Heard::Connected`] its owner says again what still matters.
//! Elsewhere: what the messages mean (`archivist`, `case`).

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{SinkExt as _, StreamExt as _};
use lotse_protocol::command::{ClientMessage, ServerMessage};
use tokio::{sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::{
    Message, client::IntoClientRequest as _, http::HeaderValue, protocol::WebSocketConfig,
};
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use crate::{
    config::Config,
    enrol,
    error::{ArchivistError, Result},
    keys::{Enrolment, Keys},
};

/// Messages that may wait in each direction. Up: a burst of commits after a reconnect; when full, `case` keeps them.
/// Down: the socket waits, and the server counts us as slow.
pub const QUEUE: usize = 4_096;
/// The server pings every 5 s; this long without anything means the link is gone.
const SILENT: Duration = Duration::from_secs(12);
/// Between two measurements of the clock.
const PING_EVERY: Duration = Duration::from_secs(2);
/// The first measurements come quickly.
const FIRST_PINGS: u32 = 5;
const FIRST_PING_EVERY: Duration = Duration::from_millis(100);
/// Waiting before the next attempt doubles from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// A change of the offset by more than this is a clock that was set, not one that drifts or an answer that was late, µs.
const JUMP_US: i64 = 1_000_000;
/// The server's messages carry at most 64 KiB items in base64 and a queue of cards.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// What the link tells.
#[derive(Debug)]
pub enum Heard {
    Connected,
    Disconnected,
    Message(Box<ServerMessage>),
}

/// UTC as the server counts it.
#[derive(Debug, Default)]
pub struct ServerClock {
    offset_us: AtomicI64,
}

impl ServerClock {
    pub fn now_us(&self) -> i64 {
        local_us() + self.offset_us.load(Ordering::Relaxed)
    }

    pub fn now_ms(&self) -> i64 {
        self.now_us().div_euclid(1000)
    }
}

/// The server's time as one recording counts it: it follows small corrections, and never jumps. A clock set forward by an hour would
/// end a recording for its long silence, one set back would keep it from flushing until the hour is over.
#[derive(Debug)]
pub struct Steady {
    clock: Arc<ServerClock>,
    offset_us: AtomicI64,
}

impl Steady {
    pub fn new(clock: Arc<ServerClock>) -> Self {
        let offset_us = clock.offset_us.load(Ordering::Relaxed).into();
        Self { clock, offset_us }
    }

    pub fn now_us(&self) -> i64 {
        let (measured, mine) = (self.clock.offset_us.load(Ordering::Relaxed), self.offset_us.load(Ordering::Relaxed));
        let follows = (measured - mine).abs() < JUMP_US;
        if follows {
            self.offset_us.store(measured, Ordering::Relaxed);
        }
        local_us() + if follows { measured } else { mine }
    }
}

/// Microseconds since 1970 as this machine's clock stood at the start, counted on steadily: setting it changes nothing here.
pub fn local_us() -> i64 {
    static START: OnceLock<(i64, std::time::Instant)> = OnceLock::new();
    let (at_us, began) = START.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64);
        (now, std::time::Instant::now())
    });
    at_us + began.elapsed().as_micros() as i64
}

/// Offset by the measurement with the smallest round trip of the last ten.
#[derive(Debug, Default)]
struct Offset {
    last: VecDeque<(i64, i64)>,
}

impl Offset {
    fn pong(&mut self, t0_us: i64, server_us: i64, t1_us: i64) -> Option<i64> {
        let offset = server_us - (t0_us + t1_us) / 2;
        // The server's clock was set: what was measured before says nothing any more.
        if self.last.back().is_some_and(|(_, before)| (offset - before).abs() > JUMP_US + (t1_us - t0_us)) {
            self.last.clear();
        }
        self.last.push_back((t1_us - t0_us, offset));
        if self.last.len() > 10 {
            self.last.pop_front();
        }
        self.last.iter().min_by_key(|m| m.0).map(|m| m.1)
    }
}

pub struct Link {
    pub config: Config,
    pub keys: Arc<Keys>,
    pub enrolment: Enrolment,
    pub clock: Arc<ServerClock>,
    pub http: reqwest::Client,
    pub tls: Arc<rustls::ClientConfig>,
}

impl Link {
    /// Runs until the other side of the channels is gone, or the server does not know this device any more.
    pub async fn run(self, heard: mpsc::Sender<Heard>, mut say: mpsc::Receiver<ClientMessage>) -> Result<()> {
        let mut wait = RETRY_FIRST;
        loop {
            let began = Instant::now();
            let end = self.connection(&heard, &mut say).await;
            if heard.is_closed() {
                return Ok(());
            }
            match end {
                Err(e @ ArchivistError::NotEnrolled(_)) => return Err(e),
                Err(e) => tracing::warn!("no link to the server: {e}"),
                Ok(()) => tracing::info!("the link to the server ended"),
            }
            if began.elapsed() > RETRY_LAST {
                wait = RETRY_FIRST;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LAST);
        }
    }

    async fn connection(&self, heard: &mpsc::Sender<Heard>, say: &mut mpsc::Receiver<ClientMessage>) -> Result<()> {
        let fail = |why: String| ArchivistError::Server { url: self.config.server_url.clone(), why };
        let token = enrol::token(&self.http, &self.config, &self.keys.device_key(), &self.enrolment.device).await?;
        let url = format!("{}/api/v1/live", self.config.server_url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().map_err(|e| fail(e.to_string()))?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|e| fail(e.to_string()))?;
        request.headers_mut().insert("authorization", bearer);
        let settings = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let connector = Connector::Rustls(self.tls.clone());
        let (mut socket, _) = connect_async_tls_with_config(request, Some(settings), true, Some(connector))
            .await
            .map_err(|e| enrol::trouble(&self.config, &e))?;

        // What was meant for the last connection is said anew after `Connected`.
        while say.try_recv().is_ok() {}
        socket.send(text(&ClientMessage::Hello { language: "en".into() })).await.map_err(|e| fail(e.to_string()))?;
        if heard.send(Heard::Connected).await.is_err() {
            return Ok(());
        }
        let ended = self.talk(&mut socket, heard, say).await;
        let _ = heard.send(Heard::Disconnected).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
        ended.map_err(fail)
    }

    async fn talk<S>(
        &self,
        socket: &mut tokio_tungstenite::WebSocketStream<S>,
        heard: &mpsc::Sender<Heard>,
        say: &mut mpsc::Receiver<ClientMessage>,
    ) -> std::result::Result<(), String>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let mut offset = Offset::default();
        let mut pings = 0;
        let mut next_ping = Instant::now();
        let mut last_heard = Instant::now();
        loop {
            tokio::select! {
                frame = socket.next() => {
                    last_heard = Instant::now();
                    let message = match frame {
                        Some(Ok(Message::Text(t))) => serde_json::from_str::<ServerMessage>(&t),
                        Some(Ok(Message::Close(_))) | None => return Ok(()),
                        Some(Ok(_)) => continue,
                        Some(Err(e)) => return Err(e.to_string()),
                    };
                    match message {
                        Ok(ServerMessage::Pong { t0_us, server_us }) => {
                            if let Some(o) = offset.pong(t0_us, server_us, local_us()) {
                                self.clock.offset_us.store(o, Ordering::Relaxed);
                            }
                        }
                        Ok(message) => {
                            if heard.send(Heard::Message(Box::new(message))).await.is_err() {
                                return Ok(());
                            }
                        }
                        // A newer server may say things this program does not know.
                        Err(e) => tracing::debug!("a message that is not understood: {e}"),
                    }
                }
                message = say.recv() => {
                    let Some(message) = message else { return Ok(()) };
                    socket.send(text(&message)).await.map_err(|e| e.to_string())?;
                }
                () = tokio::time::sleep_until(next_ping) => {
                    if last_heard.elapsed() > SILENT {
                        return Err("silence".into());
                    }
                    pings += 1;
                    next_ping = Instant::now() + if pings < FIRST_PINGS { FIRST_PING_EVERY } else { PING_EVERY };
                    socket.send(text(&ClientMessage::Ping { t0_us: local_us() })).await.map_err(|e| e.to_string())?;
                }
            }
        }
    }
}

fn text(message: &ClientMessage) -> Message {
    // Plain structs with string keys: serialising them cannot fail.
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_round_trip_counts() {
        let mut offset = Offset::default();
        // True offset 1,000; slow answers lie by half their delay.
        assert_eq!(offset.pong(0, 1_000 + 90, 100), Some(1_040));
        assert_eq!(offset.pong(1_000, 2_000 + 5, 1_010), Some(1_000));
        assert_eq!(offset.pong(2_000, 3_000 + 400, 2_500), Some(1_000));
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once_and_a_recording_does_not_jump() {
        let mut offset = Offset::default();
        let hour = 3_600_000_000;
        assert_eq!(offset.pong(0, 1_005, 10), Some(1_000));
        assert_eq!(offset.pong(1_000, 2_100 + hour, 1_200), Some(1_000 + hour));

        let clock = Arc::new(ServerClock::default());
        let steady = Steady::new(clock.clone());
        let drift = || steady.now_us() - local_us();
        assert!(drift().abs() < 100_000);
        clock.offset_us.store(300_000, Ordering::Relaxed);
        assert!((drift() - 300_000).abs() < 100_000, "small corrections are followed");
        clock.offset_us.store(-hour, Ordering::Relaxed);
        assert!((drift() - 300_000).abs() < 100_000, "jumps are not");
    }
}
