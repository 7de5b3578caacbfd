//! One live socket, as a client holds it: says commands, keeps everything heard in order.
//!
//! Owns: the WebSocket. Never: forgets; a test may look back. Elsewhere: what the messages mean (`person`).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use lotse_protocol::command::{ClientMessage, ServerMessage};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::{
    Message, client::IntoClientRequest as _, http::HeaderValue, protocol::WebSocketConfig,
};

/// Answers of a busy machine may take this long.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A queue of cards is larger than one message of a client may be.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// How a client proves who it is.
#[derive(Clone)]
pub enum Proof {
    Cookie(String),
    Token(String),
    Nothing,
}

/// For tasks beside the test: says and hears, as long as the socket lives.
#[derive(Clone)]
pub struct Handle {
    say: mpsc::UnboundedSender<Message>,
    heard: Arc<Mutex<Heard>>,
    news: watch::Receiver<usize>,
}

impl Handle {
    pub fn say(&self, message: &ClientMessage) {
        let _ = self.say.send(Message::Text(serde_json::to_string(message).unwrap().into()));
    }

    /// The messages after the first `looked`, waited for. `None`: the socket is closed.
    pub async fn more(&self, looked: usize) -> Option<Vec<ServerMessage>> {
        let mut news = self.news.clone();
        loop {
            news.mark_unchanged();
            {
                let heard = self.heard.lock().unwrap();
                if heard.messages.len() > looked {
                    return Some(heard.messages[looked..].to_vec());
                }
                if heard.closed.is_some() {
                    return None;
                }
            }
            news.changed().await.ok()?;
        }
    }
}

#[derive(Default)]
struct Heard {
    messages: Vec<ServerMessage>,
    closed: Option<String>,
}

pub struct Live {
    say: mpsc::UnboundedSender<Message>,
    heard: Arc<Mutex<Heard>>,
    news: watch::Receiver<usize>,
}

impl Live {
    /// Connects. An error is the HTTP status the server answered with, or what went wrong.
    pub async fn connect(url: &str, proof: &Proof) -> Result<Self, String> {
        let mut request = format!("{}/api/v1/live", url.replacen("http", "ws", 1)).into_client_request().unwrap();
        let headers = request.headers_mut();
        match proof {
            Proof::Cookie(cookie) => {
                headers.insert("cookie", HeaderValue::from_str(cookie).unwrap());
                headers.insert("origin", HeaderValue::from_str(url).unwrap());
            }
            Proof::Token(token) => {
                headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
            }
            Proof::Nothing => {}
        }
        let settings = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, Some(settings), true)
            .await
            .map_err(|e| e.to_string())?;
        let (say, mut said) = mpsc::unbounded_channel();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (tell, news) = watch::channel(0);
        let (mut out, mut input) = socket.split();
        tokio::spawn(async move {
            while let Some(message) = said.recv().await {
                if out.send(message).await.is_err() {
                    return;
                }
            }
            let _ = out.close().await;
        });
        let shared = heard.clone();
        tokio::spawn(async move {
            loop {
                let next = input.next().await;
                let mut heard = shared.lock().unwrap();
                match next {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(message) => heard.messages.push(message),
                        Err(e) => panic!("the server said what nobody understands: {e}: {text}"),
                    },
                    Some(Ok(Message::Close(frame))) => {
                        heard.closed = Some(frame.map(|f| f.reason.to_string()).unwrap_or_default());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(e)) => heard.closed = heard.closed.take().or(Some(e.to_string())),
                    None => {
                        heard.closed.get_or_insert_default();
                    }
                }
                let (n, over) = (heard.messages.len(), heard.closed.is_some());
                drop(heard);
                tell.send_modify(|v| *v = n + usize::from(over));
                if over {
                    return;
                }
            }
        });
        Ok(Self { say, heard, news })
    }

    pub fn handle(&self) -> Handle {
        Handle { say: self.say.clone(), heard: self.heard.clone(), news: self.news.clone() }
    }

    pub fn say(&self, message: &ClientMessage) {
        self.say_text(serde_json::to_string(message).unwrap());
    }

    pub fn say_text(&self, text: String) {
        let _ = self.say.send(Message::Text(text.into()));
    }

    pub fn say_frame(&self, message: Message) {
        let _ = self.say.send(message);
    }

    /// Everything heard so far.
    pub fn heard(&self) -> Vec<ServerMessage> {
        self.heard.lock().unwrap().messages.clone()
    }

    /// How many messages came so far: a place to look on from.
    pub fn mark(&self) -> usize {
        self.heard.lock().unwrap().messages.len()
    }

    /// Why the socket closed, if it did.
    pub fn closed(&self) -> Option<String> {
        self.heard.lock().unwrap().closed.clone()
    }

    /// The first message from `mark` on that fits, waited for.
    pub async fn until<T>(&self, what: &str, mark: usize, fits: impl FnMut(&ServerMessage) -> Option<T>) -> T {
        self.until_within(what, mark, PATIENCE, fits).await
    }

    pub async fn until_within<T>(
        &self,
        what: &str,
        mark: usize,
        within: Duration,
        mut fits: impl FnMut(&ServerMessage) -> Option<T>,
    ) -> T {
        let end = tokio::time::Instant::now() + within;
        let mut news = self.news.clone();
        let mut looked = mark;
        loop {
            news.mark_unchanged();
            {
                let heard = self.heard.lock().unwrap();
                while let Some(message) = heard.messages.get(looked) {
                    looked += 1;
                    if let Some(found) = fits(message) {
                        return found;
                    }
                }
                assert!(heard.closed.is_none(), "the socket closed ({:?}) before: {what}", heard.closed);
            }
            let waited = tokio::time::timeout_at(end, news.changed()).await;
            assert!(waited.is_ok(), "not within {within:?}: {what}. Last heard: {:?}", self.heard().last());
        }
    }

    /// Waits for the server to close the socket; returns its reason.
    pub async fn until_closed(&self) -> String {
        crate::eventually("the server closes the socket", PATIENCE, async || self.closed()).await
    }
}
