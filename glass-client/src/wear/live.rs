//! The socket of the wear page: the newest display, camera picture and state out, words in.
//!
//! Out: text `{"state": …}` and `{"said": WORD, "why": null | sentence}`; binary, one byte of kind (1 display PNG, 2 camera JPEG), then the picture.
//! In: text `{"say": WORD}` and `{"camera": true | false}`. Anything else ends the socket.
//! Owns: one looker's pace. Never: queues pictures; whoever is slow gets the newest only.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Shared;

/// People looking at once: a page, a second one, a test; more would cost the glasses.
const LOOKERS: usize = 8;
/// Words are short.
const LONGEST_IN: usize = 256;
/// The state goes out at most ten times a second: meters move smoothly enough.
const STATE_EVERY: Duration = Duration::from_millis(100);
/// A looker that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(5);
const HUD: u8 = 1;
const CAMERA: u8 = 2;

/// What the page says.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Say(String),
    Camera(bool),
}

pub(super) async fn open(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    if shared.looking.load(Ordering::Relaxed) >= LOOKERS {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "Eight pages look at these glasses already. Close one, then load again.",
        )
            .into_response();
    }
    upgrade.max_message_size(LONGEST_IN).max_frame_size(LONGEST_IN).on_upgrade(move |socket| async move {
        shared.looking.fetch_add(1, Ordering::Relaxed);
        let mut looker = Looker { shared: shared.clone(), socket, camera: false };
        // How it ended does not matter: the page comes back by itself.
        let _ = looker.serve().await;
        looker.want_camera(false);
        shared.looking.fetch_sub(1, Ordering::Relaxed);
    })
}

struct Looker {
    shared: Arc<Shared>,
    socket: WebSocket,
    camera: bool,
}

/// The socket is over.
struct Over;

impl Looker {
    async fn serve(&mut self) -> Result<(), Over> {
        let mut hud = self.shared.hud.subscribe();
        let mut camera = self.shared.camera.subscribe();
        let mut state = self.shared.state.subscribe();
        hud.mark_changed();
        state.mark_changed();
        let mut pace = interval(STATE_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = self.socket.recv() => match received {
                    Some(Ok(Message::Text(text))) => self.take(text.as_str()).await?,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => return Err(Over),
                },
                changed = hud.changed() => {
                    changed.map_err(|_| Over)?;
                    let picture = hud.borrow_and_update().clone();
                    self.send_picture(HUD, &picture).await?;
                }
                changed = camera.changed(), if self.camera => {
                    changed.map_err(|_| Over)?;
                    let picture = camera.borrow_and_update().clone();
                    self.send_picture(CAMERA, &picture).await?;
                }
                _ = pace.tick() => {
                    if state.has_changed().map_err(|_| Over)? {
                        let text = format!(r#"{{"state":{}}}"#, *state.borrow_and_update());
                        self.send(Message::Text(text.into())).await?;
                    }
                }
            }
        }
    }

    async fn take(&mut self, text: &str) -> Result<(), Over> {
        match serde_json::from_str(text).map_err(|_| Over)? {
            Said::Camera(on) => self.want_camera(on),
            Said::Say(word) => {
                let why = self.shared.words.say(&word).await.err();
                let reply = serde_json::json!({ "said": word, "why": why });
                self.send(Message::Text(reply.to_string().into())).await?;
            }
        }
        Ok(())
    }

    fn want_camera(&mut self, on: bool) {
        match (std::mem::replace(&mut self.camera, on), on) {
            (false, true) => self.shared.wanting_camera.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.shared.wanting_camera.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    async fn send_picture(&mut self, kind: u8, picture: &Bytes) -> Result<(), Over> {
        if picture.is_empty() {
            return Ok(());
        }
        let mut message = BytesMut::with_capacity(picture.len() + 1);
        message.put_u8(kind);
        message.extend_from_slice(picture);
        self.send(Message::Binary(message.freeze())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Over> {
        match timeout(PATIENCE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over),
        }
    }
}
