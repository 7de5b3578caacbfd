//! Ways to say a word: the socket here, the wear page in `wear`; voice, buttons and cards are further ones.
//!
//! Owns: the shape of a question to the core and its answer. Never: decides whether a word is offered.

pub mod socket;

use tokio::sync::{mpsc, oneshot};

use crate::{config::Language, core::Word};

/// Words on their way to the core: a person does not say more, and what comes on top is refused as busy.
pub const QUEUE: usize = 32;

/// A word and the place for the answer: done, or why not.
pub type Ask = (Word, oneshot::Sender<Result<(), String>>);

/// Says words.
#[derive(Clone)]
pub struct Words {
    asks: mpsc::Sender<Ask>,
    /// Refusals are in the language of the display.
    language: Language,
}

impl Words {
    pub fn new(asks: mpsc::Sender<Ask>, language: Language) -> Self {
        Self { asks, language }
    }

    /// Says a word and waits for the answer.
    pub async fn say(&self, text: &str) -> Result<(), String> {
        let l = self.language;
        let word = Word::parse(text).ok_or_else(|| l.t("dieses Wort gibt es nicht", "no such word"))?;
        let (reply, answer) = oneshot::channel();
        self.asks
            .try_send((word, reply))
            .map_err(|_| l.t("gerade beschäftigt, noch einmal sagen", "busy, say it again"))?;
        answer.await.map_err(|_| l.t("das Programm wird gerade beendet", "the program is ending"))?
    }
}
