//! The instructions of a session and how far each has come.
//!
//! Owns: which one is shown, and the receipts that follow from showing and answering.
//! Never: goes back from done or refused.

use lotse_payload::{Instruction, ReceiptPayload, ReceiptState, receipt::PictureOrigin};
use lotse_protocol::id::{EventId, Pseudonym};

/// On display this long counts as seen, ms. There is no head sensor yet: a still head is taken for granted.
const SEEN_MS: i64 = 3_000;
/// More open instructions than this: the oldest are dropped from the display (they stay in the case).
const MAX: usize = 200;

/// One instruction.
#[derive(Debug, Clone)]
pub struct Item {
    pub id: EventId,
    pub from: Pseudonym,
    pub at_ms: i64,
    pub instruction: Instruction,
    pub state: Option<ReceiptState>,
    pub picture: Option<PictureOrigin>,
    shown_at_ms: Option<i64>,
}

/// All of a session, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Instructions {
    items: Vec<Item>,
    current: Option<EventId>,
}

impl Instructions {
    /// A new one. `live`: it goes onto the display; otherwise it was in the log before.
    pub fn add(&mut self, id: EventId, from: Pseudonym, at_ms: i64, instruction: Instruction, live: bool) {
        if self.items.iter().any(|i| i.id == id) {
            return;
        }
        if let Some(old) = instruction.replaces {
            self.items.retain(|i| i.id != old);
        }
        if self.items.len() == MAX {
            self.items.remove(0);
        }
        self.items.push(Item { id, from, at_ms, instruction, state: None, picture: None, shown_at_ms: None });
        if live {
            self.current = Some(id);
        }
    }

    /// One of our own receipts from the log, after a restart.
    pub fn restore(&mut self, receipt: &ReceiptPayload) {
        if let Some(item) = self.items.iter_mut().find(|i| i.id == receipt.instruction)
            && item.state < Some(receipt.state)
        {
            item.state = Some(receipt.state);
        }
    }

    /// The log was read: show the newest open one.
    pub fn caught_up(&mut self) {
        if self.current().is_none() {
            self.current = self.items.iter().rev().find(|i| is_open(i)).map(|i| i.id);
        }
    }

    /// The marked picture is there.
    pub fn ready(&mut self, id: EventId, origin: PictureOrigin) {
        if let Some(item) = self.items.iter_mut().find(|i| i.id == id) {
            item.picture = Some(origin);
        }
    }

    pub fn is_ready(&self, id: EventId) -> bool {
        self.items.iter().any(|i| i.id == id && i.picture.is_some())
    }

    /// The one on the display: chosen, open, and its picture drawn.
    pub fn shown(&self) -> Option<&Item> {
        self.current().filter(|i| i.picture.is_some())
    }

    pub fn current_id(&self) -> Option<EventId> {
        self.current().map(|i| i.id)
    }

    pub fn get(&self, id: EventId) -> Option<&Instruction> {
        self.items.iter().find(|i| i.id == id).map(|i| &i.instruction)
    }

    /// Which of how many, from 1.
    pub fn place(&self, id: EventId) -> (usize, usize) {
        (self.items.iter().position(|i| i.id == id).map_or(0, |p| p + 1), self.items.len())
    }

    pub fn open_count(&self) -> usize {
        self.items.iter().filter(|i| is_open(i)).count()
    }

    /// (done, refused, open)
    pub fn tally(&self) -> (usize, usize, usize) {
        let of = |s| self.items.iter().filter(|i| i.state == Some(s)).count();
        (of(ReceiptState::Done), of(ReceiptState::Refused), self.open_count())
    }

    /// The display has shown it.
    pub fn presented(&mut self, id: EventId, now_ms: i64) -> Vec<ReceiptPayload> {
        match self.items.iter_mut().find(|i| i.id == id) {
            Some(item) => {
                if item.shown_at_ms.is_none() {
                    item.shown_at_ms = Some(now_ms);
                }
                advance(item, ReceiptState::Shown, now_ms)
            }
            None => Vec::new(),
        }
    }

    /// Long enough on display.
    pub fn tick(&mut self, now_ms: i64) -> Vec<ReceiptPayload> {
        match self.current_mut() {
            Some(item) if item.shown_at_ms.is_some_and(|at| now_ms - at >= SEEN_MS) => {
                advance(item, ReceiptState::Seen, now_ms)
            }
            _ => Vec::new(),
        }
    }

    /// The technician reacted while it was shown.
    pub fn seen(&mut self, now_ms: i64) -> Vec<ReceiptPayload> {
        self.current_mut().map(|item| advance(item, ReceiptState::Seen, now_ms)).unwrap_or_default()
    }

    /// Done or refused; the next open one comes.
    pub fn answer(&mut self, done: bool, now_ms: i64) -> Vec<ReceiptPayload> {
        let state = if done { ReceiptState::Done } else { ReceiptState::Refused };
        let receipts = self.current_mut().map(|item| advance(item, state, now_ms)).unwrap_or_default();
        self.current = self.items.iter().find(|i| is_open(i)).map(|i| i.id);
        receipts
    }

    /// To the next or last open one.
    pub fn turn(&mut self, forward: bool) -> Option<EventId> {
        let open: Vec<EventId> = self.items.iter().filter(|i| is_open(i)).map(|i| i.id).collect();
        let at = open.iter().position(|id| Some(*id) == self.current)?;
        let step = if forward { 1 } else { open.len() - 1 };
        self.current = Some(open[(at + step) % open.len()]);
        self.current
    }

    fn current(&self) -> Option<&Item> {
        self.items.iter().find(|i| Some(i.id) == self.current && is_open(i))
    }

    fn current_mut(&mut self) -> Option<&mut Item> {
        self.items.iter_mut().find(|i| Some(i.id) == self.current && is_open(i))
    }
}

fn is_open(item: &Item) -> bool {
    !matches!(item.state, Some(ReceiptState::Done | ReceiptState::Refused))
}

/// The receipt for a new state; none when it is not further than the last.
fn advance(item: &mut Item, state: ReceiptState, at_ms: i64) -> Vec<ReceiptPayload> {
    if item.state >= Some(state) || !is_open(item) {
        return Vec::new();
    }
    item.state = Some(state);
    let picture = if state == ReceiptState::Shown { item.picture } else { None };
    vec![ReceiptPayload { instruction: item.id, state, at_ms, picture }]
}
