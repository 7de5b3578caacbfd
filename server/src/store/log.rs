//! The one writer of all case logs: takes what waits, checks it, commits it in one transaction, then answers and tells.
//!
//! Owns: every case's state in memory and the order of its events. Answers only what is durable.
//! Never: waits for a reader. Elsewhere: what one request does (`acts`), checks (`case`, `intake`), fan-out (`live::hub`).

mod acts;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use lotse_protocol::{
    chain::Head,
    command::{CaseSummary, ItemRef, SentEvent},
    envelope::{AuthorFields, GatewayJoined, LeftWhy},
    id::{CaseId, Pseudonym, SessionId, Signature},
    policy::{Relation, Role},
    session::Session,
};
use sqlx::{Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::{
    Store, accounts::AccountId, case::CaseState, gateways::Gateway, keys::ServerKeys, registers::Place, stored,
};
use crate::{error::Error, refusal::Code};

/// Requests that may wait. A full queue makes the asking socket wait, nobody else.
const QUEUE: usize = 1024;
/// Requests taken into one transaction: enough to share a disk sync, few enough to keep the answer quick.
const BATCH: usize = 128;
/// Cases kept in memory. Above it all are forgotten and read again as needed.
const CASES_IN_MEMORY: usize = 1000;

/// A durable event on its way to readers.
#[derive(Debug, Clone)]
pub struct News {
    pub event: Arc<LogEvent>,
    /// The session it belongs to, as it is now.
    pub session: Option<Session>,
    /// Present when lists and queues change by it.
    pub summary: Option<CaseSummary>,
    /// Present when it is a call: the event with the caller's name.
    pub caller: Option<SentEvent>,
}

/// A session that was open when the server stopped.
pub struct OpenSession {
    pub session: Session,
    pub summary: CaseSummary,
    pub caller: Option<SentEvent>,
}

/// What one transaction has to tell: first its answers, then its events. It travels whole, so that whoever acts upon an
/// answer finds the hub knowing what the answer is about.
pub struct Told {
    answers: Vec<Finish>,
    pub news: Vec<News>,
}

impl Told {
    /// Gives the answers out.
    pub fn answer(&mut self) {
        self.answers.drain(..).for_each(|finish| finish(Ok(())));
    }
}

#[derive(Debug)]
pub struct LogEvent {
    pub head: Head,
    pub fields: AuthorFields,
    pub sent: SentEvent,
}

/// How somebody stands to a case.
#[derive(Debug, Clone)]
pub struct Standing {
    pub me: Pseudonym,
    pub relation: Relation,
    pub head: Head,
    /// The session that runs.
    pub session: Option<Session>,
}

/// Called once, when it is durable or refused.
pub type Answer = Box<dyn FnOnce(Result<Head, Error>) + Send>;

/// One event to append.
pub struct Commit {
    pub account: AccountId,
    pub role: Role,
    pub case: CaseId,
    pub author: String,
    pub sig: Signature,
    pub items: Vec<ItemRef>,
    pub answer: Answer,
}

enum Ask {
    NewCase {
        account: AccountId,
        place: Place,
        language: String,
        answer: oneshot::Sender<Result<CaseSummary, Error>>,
    },
    Stand {
        account: AccountId,
        role: Role,
        case: CaseId,
        enter: bool,
        answer: oneshot::Sender<Result<Standing, Error>>,
    },
    Commit(Commit),
    Gateway {
        case: CaseId,
        joined: GatewayJoined,
        answer: oneshot::Sender<Result<Session, Error>>,
    },
    Left {
        case: CaseId,
        session: SessionId,
        who: Pseudonym,
        why: LeftWhy,
    },
    Settle {
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

/// What others hold of the log.
#[derive(Clone)]
pub struct LogHandle(mpsc::Sender<Ask>);

impl LogHandle {
    /// Makes a case and its `opened` event. The opener gets a pseudonym and still has to commit `joined`.
    pub async fn new_case(&self, account: AccountId, place: Place, language: String) -> Result<CaseSummary, Error> {
        self.ask(|answer| Ask::NewCase { account, place, language, answer }).await
    }

    /// How the account stands to the case, giving it a pseudonym if it has none and its role may enter.
    pub async fn enter(&self, account: AccountId, role: Role, case: CaseId) -> Result<Standing, Error> {
        self.ask(|answer| Ask::Stand { account, role, case, enter: true, answer }).await
    }

    /// How the account stands to the case. An outsider is told that there is no such case.
    pub async fn standing(&self, account: AccountId, role: Role, case: CaseId) -> Result<Standing, Error> {
        self.ask(|answer| Ask::Stand { account, role, case, enter: false, answer }).await
    }

    /// Puts an event in the queue; its answer is called when it is durable or refused.
    pub async fn commit(&self, commit: Commit) -> Result<(), Error> {
        self.0.send(Ask::Commit(commit)).await.map_err(|_| Code::Busy.into())
    }

    /// The server's own word that a gateway has come into the open session of its case.
    pub async fn gateway(&self, gateway: &Gateway) -> Result<Session, Error> {
        let joined = GatewayJoined { who: gateway.who, way: gateway.way, name: gateway.name.clone() };
        self.ask(|answer| Ask::Gateway { case: gateway.case, joined, answer }).await
    }

    /// The server's own word that somebody left. False: the queue is full; say it again later.
    pub fn left(&self, case: CaseId, session: SessionId, who: Pseudonym, why: LeftWhy) -> bool {
        self.0.try_send(Ask::Left { case, session, who, why }).is_ok()
    }

    /// Returns when everything asked before is durable or refused.
    pub async fn settle(&self) {
        // Refused or not: it is over.
        let _ = self.ask(|answer| Ask::Settle { answer }).await;
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Ask) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.0.send(make(answer)).await.map_err(|_| Code::Busy)?;
        answered.await.map_err(|_| Error::from(Code::Busy))?
    }
}

/// The writer. [`Log::run`] is its task; it ends when every handle is gone.
pub struct Log {
    store: Store,
    keys: ServerKeys,
    asks: mpsc::Receiver<Ask>,
    hub: mpsc::Sender<Told>,
    cases: HashMap<CaseId, CaseState>,
}

/// Sent when the transaction's fate is known.
type Finish = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What one transaction gathers.
#[derive(Default)]
struct Batch {
    answers: Vec<Finish>,
    news: Vec<News>,
    touched: HashSet<CaseId>,
}

impl Log {
    pub fn new(store: Store, keys: ServerKeys, hub: mpsc::Sender<Told>) -> (Self, LogHandle) {
        let (handle, asks) = mpsc::channel(QUEUE);
        (Self { store, keys, asks, hub, cases: HashMap::new() }, LogHandle(handle))
    }

    /// Every session that was open when the server stopped, so that presence can be counted from now.
    pub async fn open_sessions(&mut self) -> Result<Vec<OpenSession>, Error> {
        let mut db = self.store.pool.acquire().await?;
        let rows = sqlx::query("select id from cases where session is not null").fetch_all(&mut *db).await?;
        let mut open = Vec::new();
        for row in rows {
            let id: CaseId = stored("case id", row.try_get::<String, _>(0)?.parse())?;
            let case = acts::case(&mut self.cases, &mut db, &self.keys, id).await?;
            if let Some(session) = case.sessions.open() {
                // A database of an earlier form does not know it.
                sqlx::query("update cases set waiting = ? where id = ?")
                    .bind(session.is_waiting())
                    .bind(id.to_string())
                    .execute(&mut *db)
                    .await?;
                let caller = acts::caller(case, &mut db, &self.keys, session).await?;
                open.push(OpenSession { session: session.clone(), summary: case.summary(), caller });
            }
        }
        Ok(open)
    }

    pub async fn run(mut self) {
        while let Some(first) = self.asks.recv().await {
            let mut asks = vec![first];
            while asks.len() < BATCH
                && let Ok(next) = self.asks.try_recv()
            {
                asks.push(next);
            }
            self.write(asks).await;
        }
    }

    /// One transaction. Whatever fails in it on our side, nothing of it is kept, in the database or in memory.
    async fn write(&mut self, asks: Vec<Ask>) {
        if self.cases.len() > CASES_IN_MEMORY {
            self.cases.clear();
        }
        let mut batch = Batch::default();
        let began = std::time::Instant::now();
        let result = self.transaction(asks, &mut batch).await;
        metrics::histogram!("lotse_log_commit_seconds").record(began.elapsed());
        if let Err(e) = &result {
            if e.refusal().is_none() {
                tracing::error!("nothing of a batch was stored: {e}");
            }
            for case in &batch.touched {
                self.cases.remove(case);
            }
        }
        if result.is_err() {
            metrics::counter!("lotse_log_failures_total").increment(1);
            batch.answers.into_iter().for_each(|finish| finish(Err(Code::Storage.into())));
            return;
        }
        metrics::counter!("lotse_log_events_total").increment(batch.news.len() as u64);
        let mut told = Told { answers: batch.answers, news: batch.news };
        if told.news.is_empty() {
            told.answer();
        } else if let Err(mpsc::error::SendError(mut told)) = self.hub.send(told).await {
            // The hub is gone only at shutdown; what was asked still gets its answer.
            told.answer();
        }
    }

    async fn transaction(&mut self, mut asks: Vec<Ask>, batch: &mut Batch) -> Result<(), Error> {
        let mut trouble = None;
        let mut tx = match self.store.pool.begin_with("begin immediate").await {
            Ok(tx) => Some(tx),
            Err(e) => {
                // Who came meanwhile waited for the same lock: all are told now, and nobody waits for it twice.
                for _ in 0..self.asks.len() {
                    asks.extend(self.asks.try_recv());
                }
                trouble = Some(Error::from(e));
                None
            }
        };
        for ask in asks {
            let mut one = One { cases: &mut self.cases, keys: &self.keys, batch };
            let db = match (&mut tx, &trouble) {
                (Some(tx), None) => Some(&mut **tx),
                _ => None,
            };
            let later = one.take(db, ask).await;
            trouble = trouble.or(later);
        }
        match (tx, trouble) {
            (Some(tx), None) => Ok(tx.commit().await?),
            (_, trouble) => Err(trouble.unwrap_or_else(|| Error::Us("no transaction".into()))),
        }
    }
}

/// Handles one request inside a transaction.
struct One<'a> {
    cases: &'a mut HashMap<CaseId, CaseState>,
    keys: &'a ServerKeys,
    batch: &'a mut Batch,
}

impl One<'_> {
    /// Refusals go to whoever asked; trouble of ours is returned and undoes the whole batch.
    async fn take(&mut self, db: Option<&mut SqliteConnection>, ask: Ask) -> Option<Error> {
        match ask {
            Ask::NewCase { account, place, language, answer } => {
                let made = match db {
                    Some(db) => self.new_case(db, account, place, language).await,
                    None => gone(),
                };
                self.finish(made, move |r| drop(answer.send(r)))
            }
            Ask::Stand { account, role, case, enter, answer } => {
                let standing = match db {
                    Some(db) => self.stand(db, account, role, case, enter).await,
                    None => gone(),
                };
                self.finish(standing, move |r| drop(answer.send(r)))
            }
            Ask::Commit(commit) => {
                let Commit { account, role, case, author, sig, items, answer } = commit;
                let head = match db {
                    Some(db) => self.commit(db, account, role, case, author, sig, items).await,
                    None => gone(),
                };
                self.finish(head, answer)
            }
            Ask::Gateway { case, joined, answer } => {
                let session = match db {
                    Some(db) => self.gateway(db, case, joined).await,
                    None => gone(),
                };
                self.finish(session, move |r| drop(answer.send(r)))
            }
            Ask::Left { case, session, who, why } => {
                let left = match db {
                    Some(db) => self.left(db, case, session, who, why).await,
                    None => gone(),
                };
                self.finish(left, |_| {})
            }
            Ask::Settle { answer } => self.finish(Ok(()), move |r| drop(answer.send(r))),
        }
    }

    fn finish<T: Send + 'static>(
        &mut self,
        result: Result<T, Error>,
        answer: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) -> Option<Error> {
        let trouble = result.as_ref().err().filter(|e| e.is_ours()).cloned();
        self.batch.answers.push(Box::new(move |stored: Result<(), Error>| answer(stored.and(result))));
        trouble
    }
}

/// The batch failed before this request; all of it is refused.
fn gone<T>() -> Result<T, Error> {
    Err(Error::Us("the batch failed before this request".into()))
}
