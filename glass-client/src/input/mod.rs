//! Ways to say a word: the socket here, the wear page in `wear`; voice, buttons and cards are further ones.
//!
//! Owns: the shape of a question to the core and its answer. Never: decides whether a word is offered.

pub mod socket;

use tokio::sync::{mpsc, oneshot};

use crate::core::Word;

/// Words on their way to the core: a person does not say more, and what comes on top is refused as busy.
pub const QUEUE: usize = 32;

/// A word and the place for the answer: done, or why not.
pub type Ask = (Word, oneshot::Sender<Result<(), String>>);

/// Says words.
#[derive(Clone)]
pub struct Words(pub mpsc::Sender<Ask>);

impl Words {
    /// Says a word and waits for the answer.
    pub async fn say(&self, text: &str) -> Result<(), String> {
        let word = Word::parse(text).ok_or_else(|| "no such word".to_owned())?;
        let (reply, answer) = oneshot::channel();
        self.0.try_send((word, reply)).map_err(|_| "busy, say it again".to_owned())?;
        answer.await.map_err(|_| "the program is ending".to_owned())?
    }
}
