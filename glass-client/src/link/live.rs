//! The live socket: connects, stays connected, measures the clock.
//!
//! Owns: one WebSocket at a time, tokens, pings, the pause before the next try. Order on one socket is kept.
//! Never: reads a message further than its JSON. Elsewhere: what messages mean (`app`).

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use lotse_protocol::command::{ClientMessage, ServerMessage};
use lotse_trust::Fault;
use tokio::{
    sync::mpsc,
    time::{Instant, interval, timeout},
};
use tokio_tungstenite::connect_async_tls_with_config;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes, client::IntoClientRequest as _};

use super::{http::Api, policy::Retry};
use crate::{
    clock::{Clock, Pings},
    error::GlassError,
};

/// Messages waiting to be sent: a full queue means a dead socket, and what counts is sent again anyway.
const UP: usize = 256;
/// Messages waiting to be understood.
const DOWN: usize = 1_024;
/// A connection attempt that takes longer has failed.
const CONNECT: Duration = Duration::from_secs(8);
/// Between two clock measurements.
const PING: Duration = Duration::from_secs(2);
/// Nothing heard for this long: the socket is dead. The server pings every 5 s.
const SILENCE: Duration = Duration::from_secs(12);

/// What comes down.
#[derive(Debug)]
pub enum Down {
    Connected,
    Message(Box<ServerMessage>),
    Disconnected,
    /// Enrolment is missing or was refused; it is tried again all the same.
    NotPaired(String),
}

/// The handle: messages up, messages down.
pub struct Live {
    pub up: mpsc::Sender<ClientMessage>,
    pub down: mpsc::Receiver<Down>,
}

impl Live {
    pub fn start(api: Api, clock: Clock, language: &'static str) -> Self {
        let (up, commands) = mpsc::channel(UP);
        let (events, down) = mpsc::channel(DOWN);
        tokio::spawn(run(api, clock, language, commands, events));
        Self { up, down }
    }
}

async fn run(
    api: Api,
    clock: Clock,
    language: &'static str,
    mut commands: mpsc::Receiver<ClientMessage>,
    events: mpsc::Sender<Down>,
) {
    let mut retry = Retry::default();
    loop {
        match connection(&api, &clock, language, &mut commands, &events, &mut retry).await {
            Ok(()) => return,
            Err(e) => {
                tracing::warn!("{e}");
                let told = match &e {
                    // Somebody must act, and the wearer is to know what keeps them from calling.
                    GlassError::NotPaired | GlassError::Distrusted { .. } => {
                        events.send(Down::NotPaired(e.to_string())).await
                    }
                    GlassError::Refused { code, .. } if code.contains("pairing") || code == "forbidden" => {
                        events.send(Down::NotPaired(e.to_string())).await
                    }
                    _ => events.send(Down::Disconnected).await,
                };
                if told.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(retry.next(rand::random())).await;
    }
}

/// One connection; `Ok` when the program ends.
async fn connection(
    api: &Api,
    clock: &Clock,
    language: &'static str,
    commands: &mut mpsc::Receiver<ClientMessage>,
    events: &mpsc::Sender<Down>,
    retry: &mut Retry,
) -> Result<(), GlassError> {
    let token = api.token(clock.aligned_ms()).await?;
    api.learn_person(&token).await;
    let unreachable = |why: String| GlassError::Unreachable { url: api.live_url(), why };
    let mut request = api.live_url().into_client_request().map_err(|e| unreachable(e.to_string()))?;
    let bearer = format!("Bearer {token}").parse().map_err(|_| unreachable("the token is no header".into()))?;
    request.headers_mut().insert("authorization", bearer);
    let socket = match timeout(CONNECT, connect_async_tls_with_config(request, None, true, Some(api.connector()))).await
    {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(e)) => {
            if let Some(fault) = Fault::find(&e) {
                return Err(GlassError::Distrusted { url: api.live_url(), why: api.fault_words(&fault) });
            }
            // Refused with a status: the token may be stale (the server was set up anew).
            api.forget_token().await;
            return Err(unreachable(e.to_string()));
        }
        Err(_) => return Err(unreachable("no answer".into())),
    };
    let (mut to, mut from) = socket.split();
    to.send(text(&ClientMessage::Hello { language: language.into() })?)
        .await
        .map_err(|e| unreachable(e.to_string()))?;
    // What was meant for the old socket is void. Before `Connected`, because its answer is the first message for this one.
    while commands.try_recv().is_ok() {}
    if events.send(Down::Connected).await.is_err() {
        return Ok(());
    }
    let mut pings = Pings::default();
    let mut tick = interval(PING);
    let mut heard = Instant::now();
    loop {
        let sent = tokio::select! {
            command = commands.recv() => match command {
                Some(command) => to.send(text(&command)?).await,
                None => {
                    // The program ends: say so properly, as far as it goes.
                    let _ = timeout(Duration::from_secs(1), to.close()).await;
                    return Ok(());
                }
            },
            _ = tick.tick() => {
                if heard.elapsed() > SILENCE {
                    return Err(unreachable("silent for 12 s".into()));
                }
                to.send(text(&ClientMessage::Ping { t0_us: clock.now_us() })?).await
            }
            message = from.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(words))) => {
                        match serde_json::from_str::<ServerMessage>(&words) {
                            Ok(ServerMessage::Pong { t0_us, server_us }) => {
                                let (offset, _) = pings.reply(t0_us, server_us, clock.now_us());
                                clock.set_offset_us(offset);
                                // It is alive: the next failure begins with a short pause.
                                retry.reset();
                            }
                            Ok(message) => {
                                if events.send(Down::Message(Box::new(message))).await.is_err() {
                                    return Ok(());
                                }
                            }
                            // A newer server may say more than we know.
                            Err(e) => tracing::debug!("a message not understood: {e}"),
                        }
                        Ok(())
                    }
                    Some(Ok(Message::Close(why))) => return Err(unreachable(format!("closed: {why:?}"))),
                    Some(Ok(_)) => Ok(()),
                    Some(Err(e)) => Err(e),
                    None => return Err(unreachable("closed".into())),
                }
            }
        };
        sent.map_err(|e| unreachable(e.to_string()))?;
    }
}

fn text(message: &ClientMessage) -> Result<Message, GlassError> {
    let words = serde_json::to_string(message).map_err(|e| GlassError::Ours(e.to_string()))?;
    Ok(Message::Text(Utf8Bytes::from(words)))
}
