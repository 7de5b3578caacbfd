//! `lotse-server`: carries media and orders events, and reads neither.
//!
//! Read `app` (what it consists of), `store::log` (how an event becomes durable) and `live::socket` (how it reaches people) first.
//! Never: opens an item; the crate of payload types is not among its dependencies.

mod acme;
pub mod admin;
pub mod app;
pub mod backup;
pub mod caller;
pub mod config;
pub mod doctor;
pub mod error;
pub mod front;
pub mod http;
pub mod limits;
pub mod live;
pub mod metrics;
pub mod reach;
pub mod refusal;
pub mod router;
pub mod seed;
pub mod shutdown;
pub mod store;
pub mod tls;
pub mod tokens;
pub mod turn;
pub mod welcome;
