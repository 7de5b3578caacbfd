//! The demo's people, places and devices. Safe to repeat; everything here is invented.

use lotse_protocol::policy::Role;
use serde_json::json;

use crate::{
    admin::{print, with_pin},
    config::Config,
    error::Error,
    store::{
        Store,
        accounts::{self, NewAccount, role_word},
        devices,
        keys::ServerKeys,
        registers,
    },
};

/// Printed by `make demo`; counts on loopback only.
pub const DEMO_PASSWORD: &str = "lotse-demo";

/// User, name, role, and whether they log in with the demo password.
const PEOPLE: [(&str, &str, Role, bool); 8] = [
    ("expert", "Anton Weber", Role::Expert, true),
    ("expert2", "Lea Schmid", Role::Expert, true),
    ("manager", "Ines Lehner", Role::Manager, true),
    ("admin", "Nora Fuchs", Role::Administrator, true),
    // With a phone; nobody's glasses, so that both can be in calls of their own.
    ("technician", "Sofia Brandt", Role::Technician, true),
    ("technician1", "Mara Krüger", Role::Technician, false),
    ("technician2", "Jonas Lind", Role::Technician, false),
    ("archivist", "Archivar", Role::Archivist, false),
];

/// Device and the account it acts for.
const DEVICES: [(&str, &str); 3] =
    [("helmet-1", "technician1"), ("helmet-2", "technician2"), ("archivist", "archivist")];

pub async fn run(config: &Config, store: &Store, keys: &ServerKeys) -> Result<(), Error> {
    let pool = &store.pool;
    registers::put_customer(pool, "hydroserv", "Hydroserv Linz GmbH").await?;
    registers::put_site(pool, "linz-halle-3", "hydroserv", "Werk Linz, Halle 3").await?;
    registers::put_asset(pool, "p-204", "linz-halle-3", "Kreiselpumpe P-204", "HS-80-250/7731").await?;
    registers::put_asset(pool, "p-205", "linz-halle-3", "Kreiselpumpe P-205", "HS-80-250/7732").await?;
    registers::put_customer(pool, "donaurad", "Donaurad Verleih eG").await?;
    registers::put_site(pool, "station-7", "donaurad", "Station 7, Urfahrmarkt").await?;
    registers::put_asset(pool, "dock-12", "station-7", "Leihrad-Dock 12", "DR-D12-0459").await?;
    for (user, name, role, logs_in) in PEOPLE {
        let password = logs_in.then_some(DEMO_PASSWORD);
        // A password that was changed since stays changed.
        if !accounts::may_log_in(pool, user).await? && (logs_in || accounts::by_user(pool, user).await?.is_none()) {
            accounts::put(pool, NewAccount { user, name, role, language: "de", password, demo: true }).await?;
        }
        if logs_in {
            print(&json!({ "kind": "account", "user": user, "password": DEMO_PASSWORD, "name": name }))?;
        }
    }
    for (device, user) in DEVICES {
        let Some(account) = accounts::by_user(pool, user).await? else { continue };
        let role = role_word(account.role);
        if devices::is_paired(pool, device).await? {
            print(&json!({ "kind": "paired", "name": device, "role": role }))?;
        } else {
            let code = with_pin(config, devices::make_code(pool, keys, account.id, device, true).await?)?;
            print(&json!({ "kind": "pairing", "name": device, "role": role, "code": code }))?;
        }
    }
    Ok(())
}
