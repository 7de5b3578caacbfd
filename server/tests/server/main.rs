//! Tests of `lotse-server` as its users meet it: the real program, real sockets, a folder of its own.
//!
//! Elsewhere: the whole product in a browser (`/tests`), rules of the chain and the table (`server/protocol`).

mod kit;

mod accounts;
mod archive;
mod backup;
mod cases;
mod commits;
mod crash;
mod devices;
mod items;
mod membership;
mod policy;
mod sessions;
mod start;
mod walk;
mod web;
