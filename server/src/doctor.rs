//! `lotse-server doctor`: looks at settings, folders, keys, ports and every stored log, and says what to mend.

use lotse_protocol::id::CaseId;
use sqlx::Row as _;

use crate::{
    admin::print,
    config::Config,
    error::Error,
    store::{Store, case::CaseState, keys::ServerKeys, organisation, stored},
};

/// Prints one JSON line per finding. `Err`: something must be mended; what was found first is the message.
pub async fn run(config: &Config) -> Result<(), Error> {
    let store = Store::open(config).await?;
    say("data folder", format!("{} can be written", config.data.dir.display()))?;
    let keys = ServerKeys::open(config, &store.pool).await?;
    say("keys", format!("{} belongs to this data; the server's key is {}", config.data.keys.display(), keys.public()))?;
    let sound: String = sqlx::query("pragma quick_check").fetch_one(&store.pool).await?.try_get(0)?;
    if sound != "ok" {
        return Err(Error::operator(format!("the database is damaged: {sound}"), "Restore a backup."));
    }
    say("database", "is sound".into())?;
    let facts = organisation::verify(&store.pool, &keys).await?;
    say("organisation log", format!("{facts} entries verify"))?;
    let rows = sqlx::query("select id, number from cases order by id").fetch_all(&store.pool).await?;
    for row in &rows {
        let id: CaseId = stored("case id", row.try_get::<String, _>(0)?.parse())?;
        let mut db = store.pool.acquire().await?;
        CaseState::load(&mut db, id).await.map_err(|e| {
            Error::operator(e, "Compare with a backup; keep this folder as it is for whoever examines it.")
        })?;
    }
    say("cases", format!("{} logs verify", rows.len()))?;
    match tokio::net::TcpListener::bind(config.http.listen).await {
        Ok(_) => say("http.listen", format!("{} is free", config.http.listen)),
        Err(e) => {
            say("http.listen", format!("{} is taken ({e}): fine if that is lotse-server itself", config.http.listen))
        }
    }
}

fn say(what: &str, found: String) -> Result<(), Error> {
    print(&serde_json::json!({ "kind": "doctor", "what": what, "found": found }))
}
