//! What an administrator does from the command line: accounts, pairing codes, devices. Works beside a running server.
//!
//! Each act prints one JSON line and is written into the organisation's log.

use std::io::Write as _;

use clap::Subcommand;
use lotse_protocol::policy::Role;
use serde_json::{Value, json};

use crate::{
    config::Config,
    error::Error,
    seed,
    store::{
        Store,
        accounts::{self, NewAccount, role_of, role_word},
        devices,
        keys::ServerKeys,
        organisation,
    },
};

#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Fill in the demo's accounts, registers and pairing codes. Safe to repeat.
    SeedDemo,
    /// Make an account, or change one. The password is read from LOTSE_NEW_PASSWORD or from the first line of stdin.
    AddUser {
        user: String,
        #[arg(long)]
        name: String,
        #[arg(long, value_parser = role_of)]
        role: Role,
        #[arg(long, default_value = "de")]
        language: String,
        /// No password: for people who only wear glasses, and for the archivist.
        #[arg(long)]
        no_password: bool,
    },
    /// Make a one-time code, good for 15 minutes, for a device that acts for `user`.
    PairingCode {
        user: String,
        /// What the device is called, e.g. helmet-3. A device of that name is replaced when the code is used.
        #[arg(long)]
        device: String,
    },
    /// Take a device's right to enter. A live connection of it ends within 15 seconds.
    RevokeDevice { device: String },
}

pub async fn run(config: &Config, command: Admin) -> Result<(), Error> {
    let store = Store::open(config).await?;
    let keys = ServerKeys::open(config, &store.pool).await?;
    match command {
        Admin::SeedDemo => seed::run(&store, &keys).await,
        Admin::AddUser { user, name, role, language, no_password } => {
            let password = if no_password { None } else { Some(read_password()?) };
            let new = NewAccount {
                user: &user,
                name: &name,
                role,
                language: &language,
                password: password.as_deref(),
                demo: false,
            };
            accounts::put(&store.pool, new).await?;
            let fact = json!({ "user": user, "role": role_word(role) });
            let mut tx = store.pool.begin_with("begin immediate").await?;
            organisation::append(&mut tx, &keys, "account.put", fact).await?;
            tx.commit().await?;
            print(&json!({ "kind": "account", "user": user, "name": name, "role": role_word(role) }))
        }
        Admin::PairingCode { user, device } => {
            let account = accounts::by_user(&store.pool, &user).await?.ok_or_else(|| {
                Error::operator(format!("there is no account {user}"), "Make it first: lotse-server admin add-user.")
            })?;
            let code = devices::make_code(&store.pool, &keys, account.id, &device, false).await?;
            print(&json!({ "kind": "pairing", "name": device, "role": role_word(account.role), "code": code }))
        }
        Admin::RevokeDevice { device } => {
            if !devices::revoke(&store.pool, &keys, &device).await? {
                return Err(Error::operator(format!("no paired device is called {device}"), "Check its name."));
            }
            print(&json!({ "kind": "revoked", "name": device }))
        }
    }
}

/// One JSON line for whoever called.
pub fn print(line: &Value) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{line}").map_err(Error::from)
}

fn read_password() -> Result<String, Error> {
    let password = match std::env::var("LOTSE_NEW_PASSWORD") {
        Ok(password) => password,
        Err(_) => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    if password.chars().count() < 10 {
        return Err(Error::operator("the password has fewer than 10 letters", "Choose a longer one."));
    }
    Ok(password)
}
