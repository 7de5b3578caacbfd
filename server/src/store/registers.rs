//! The registers: customers, their sites, and the assets that stand there.
//!
//! Owns: three small tables and the shape they are handed out in.

use serde::Serialize;
use serde_json::Value;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::stored;
use crate::{error::Error, refusal::Code};

/// All registers at once; they are small.
#[derive(Debug, Clone, Serialize)]
pub struct Registers {
    pub customers: Vec<Customer>,
    pub sites: Vec<Site>,
    pub assets: Vec<Asset>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Customer {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Site {
    pub id: String,
    pub customer: String,
    pub name: String,
    /// SitePolicy.
    pub policy: Value,
}

#[derive(Debug, Clone, Serialize)]
pub struct Asset {
    pub id: String,
    pub site: String,
    pub name: String,
    pub serial: String,
}

/// What a new case says about whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub asset: Option<String>,
    pub customer: Option<String>,
    pub site: Option<String>,
}

pub async fn all(pool: &SqlitePool) -> Result<Registers, Error> {
    let mut registers = Registers { customers: vec![], sites: vec![], assets: vec![] };
    for row in sqlx::query("select id, name from customers order by name").fetch_all(pool).await? {
        registers.customers.push(Customer { id: row.try_get(0)?, name: row.try_get(1)? });
    }
    for row in sqlx::query("select id, customer, name, policy from sites order by name").fetch_all(pool).await? {
        let policy = stored("site policy", serde_json::from_str(&row.try_get::<String, _>(3)?))?;
        let site = Site { id: row.try_get(0)?, customer: row.try_get(1)?, name: row.try_get(2)?, policy };
        registers.sites.push(site);
    }
    for row in sqlx::query("select id, site, name, serial from assets order by name").fetch_all(pool).await? {
        let asset =
            Asset { id: row.try_get(0)?, site: row.try_get(1)?, name: row.try_get(2)?, serial: row.try_get(3)? };
        registers.assets.push(asset);
    }
    Ok(registers)
}

/// Fills in what follows (an asset's site, a site's customer) and refuses what is not registered or does not fit together.
pub async fn settle(db: &mut SqliteConnection, place: Place) -> Result<Place, Error> {
    let Place { asset, mut customer, mut site } = place;
    if let Some(asset) = &asset {
        let found = one(db, "select site from assets where id = ?", asset).await?;
        agree(&mut site, found)?;
    }
    if let Some(site) = &site {
        let found = one(db, "select customer from sites where id = ?", site).await?;
        agree(&mut customer, found)?;
    }
    if let Some(customer) = &customer {
        one(db, "select id from customers where id = ?", customer).await?;
    }
    Ok(Place { asset, customer, site })
}

fn agree(said: &mut Option<String>, found: String) -> Result<(), Error> {
    match said {
        Some(said) if *said != found => Err(Code::NoSuchRegister.into()),
        _ => {
            *said = Some(found);
            Ok(())
        }
    }
}

async fn one(db: &mut SqliteConnection, sql: &'static str, id: &str) -> Result<String, Error> {
    let row = sqlx::query(sql).bind(id).fetch_optional(db).await?;
    Ok(row.ok_or(Code::NoSuchRegister)?.try_get(0)?)
}

pub async fn put_customer(pool: &SqlitePool, id: &str, name: &str) -> Result<(), Error> {
    sqlx::query("insert into customers (id, name) values (?, ?) on conflict (id) do update set name = excluded.name")
        .bind(id)
        .bind(name)
        .execute(pool)
        .await?;
    Ok(())
}

pub async fn put_site(pool: &SqlitePool, id: &str, customer: &str, name: &str) -> Result<(), Error> {
    sqlx::query(
        "insert into sites (id, customer, name, policy) values (?, ?, ?, '{}')
         on conflict (id) do update set name = excluded.name, customer = excluded.customer",
    )
    .bind(id)
    .bind(customer)
    .bind(name)
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn put_asset(pool: &SqlitePool, id: &str, site: &str, name: &str, serial: &str) -> Result<(), Error> {
    sqlx::query(
        "insert into assets (id, site, name, serial) values (?, ?, ?, ?)
         on conflict (id) do update set site = excluded.site, name = excluded.name, serial = excluded.serial",
    )
    .bind(id)
    .bind(site)
    .bind(name)
    .bind(serial)
    .execute(pool)
    .await?;
    Ok(())
}
