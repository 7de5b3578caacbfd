//! What an administrator does from the command line: accounts, pairing codes, devices. Works beside a running server.
//!
//! Each act prints one JSON line and is written into the organisation's log.

use std::io::Write as _;

use clap::Subcommand;
use lotse_protocol::{envelope::GatewayWay, policy::Role};
use lotse_trust::Authority;
use serde_json::{Value, json};

use crate::{
    config::Config,
    error::Error,
    reach, seed,
    store::{
        Store,
        accounts::{self, NewAccount, role_of, role_word},
        devices,
        gateways::{self, Gateway},
        keys::{self, ServerKeys},
        organisation,
    },
    tls, turn,
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
    /// Make a token for a foreign client: one case, one way, some hours. It is shown this once.
    IssueToken {
        /// The case's number (2026-0007) or id.
        #[arg(long)]
        case: String,
        /// publish: it brings a picture or a voice (WHIP). watch: it sees and hears (WHEP).
        #[arg(long = "verb", value_parser = gateways::way_of)]
        way: GatewayWay,
        /// What people read in the roster, in the clear, e.g. "Hall camera 3".
        #[arg(long)]
        name: String,
        /// How long it is good, at most a month.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=744))]
        hours: u32,
    },
    /// Take a token's right. Its live connection ends within 10 seconds.
    RevokeToken {
        /// As issue-token and list-tokens say it.
        id: uuid::Uuid,
    },
    /// Say which tokens there are, one line each, the newest first.
    ListTokens,
    /// Make the own certificate authority, once. Needs no running server; restart a running one afterwards.
    MakeCa {
        /// Names and addresses besides those the settings name.
        #[arg(long = "name")]
        names: Vec<String>,
        /// Replace an authority that exists: every device must be paired again, every phone trust the new one.
        #[arg(long)]
        replace: bool,
    },
    /// Say where people find this server, and how they come to trust it.
    HowToReach,
    /// Write the settings of a coturn that lets browsers reach this server's media and nothing else.
    TurnConfig {
        /// Address of the coturn machine as browsers see it. Default: the first of media.public_ip.
        #[arg(long)]
        external_ip: Option<std::net::IpAddr>,
    },
}

pub async fn run(config: &Config, command: Admin) -> Result<(), Error> {
    // What follows from settings and key files alone leaves the data as it is.
    match command {
        Admin::MakeCa { names, replace } => return make_ca(config, names, replace),
        Admin::HowToReach => return reach::tell(config),
        Admin::TurnConfig { external_ip } => return turn::write_config(config, external_ip),
        _ => {}
    }
    let store = Store::open(config).await?;
    let keys = ServerKeys::open(config, &store.pool).await?;
    match command {
        Admin::SeedDemo => seed::run(config, &store, &keys).await,
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
            let code = with_pin(config, code)?;
            print(&json!({ "kind": "pairing", "name": device, "role": role_word(account.role), "code": code }))
        }
        Admin::RevokeDevice { device } => {
            if !devices::revoke(&store.pool, &keys, &device).await? {
                return Err(Error::operator(format!("no paired device is called {device}"), "Check its name."));
            }
            print(&json!({ "kind": "revoked", "name": device }))
        }
        Admin::IssueToken { case, way, name, hours } => {
            let (case, number) = gateways::case_named(&store.pool, &case).await?.ok_or_else(|| {
                Error::operator(
                    format!("there is no case {case}"),
                    "Give the number that its page shows, e.g. 2026-0007.",
                )
            })?;
            let (token, gateway) = gateways::issue(&store.pool, &keys, case, way, &name, hours).await?;
            let mut line = about(&gateway);
            let end = if way == GatewayWay::Publish { "whip" } else { "whep" };
            line["token"] = token.into();
            line["number"] = number.into();
            line["address"] = format!("{}/api/v1/cases/{case}/{end}", config.url(config.http.listen)).into();
            print(&line)
        }
        Admin::RevokeToken { id } => {
            if !gateways::revoke(&store.pool, &keys, id).await? {
                return Err(Error::operator(
                    format!("no token has the id {id}"),
                    "lotse-server admin list-tokens names them.",
                ));
            }
            print(&json!({ "kind": "token-revoked", "id": id }))
        }
        Admin::ListTokens => gateways::list(&store.pool).await?.iter().try_for_each(|gateway| print(&about(gateway))),
        // Done above.
        Admin::MakeCa { .. } | Admin::HowToReach | Admin::TurnConfig { .. } => Ok(()),
    }
}

fn about(gateway: &Gateway) -> Value {
    json!({
        "kind": "token", "id": gateway.id, "case": gateway.case, "verb": gateways::way_word(gateway.way), "name": gateway.name,
        "made_ms": gateway.made_ms, "expires_ms": gateway.expires_ms, "revoked_ms": gateway.revoked_ms,
    })
}

/// The code as a device needs it: with the pin of the own authority behind a dot, where there is one.
pub fn with_pin(config: &Config, code: String) -> Result<String, Error> {
    Ok(match tls::published(config)? {
        Some(authority) => format!("{code}.{}", authority.pin),
        None => code,
    })
}

fn make_ca(config: &Config, more: Vec<String>, replace: bool) -> Result<(), Error> {
    let dir = &config.data.keys;
    keys::refuse_inside(dir, &config.data.dir)?;
    if !replace && Authority::open(dir).map_err(tls::key_trouble)?.is_some() {
        return Err(Error::operator(
            format!("there is an authority in {} already", dir.display()),
            "Keep it: devices and phones trust it. --replace makes a new one that everybody must trust anew.",
        ));
    }
    let mut names = config.names();
    names.extend(more);
    let authority = Authority::make(&names, std::time::SystemTime::now()).map_err(tls::key_trouble)?;
    authority.save(dir).map_err(tls::key_trouble)?;
    let pin = authority.pin().map_err(tls::key_trouble)?.to_string();
    print(&json!({
        "kind": "authority", "certificate": dir.join("tls-ca.crt"), "fingerprint": authority.fingerprint(), "pin": pin,
        "names": names, "next": "set [tls] from = \"own-ca\" and restart lotse-server",
    }))
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
