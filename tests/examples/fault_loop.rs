//! Every change of a file fails once, one after the other, in recorded sessions, at a first start and in the glasses: nothing acknowledged
//! is lost, people are told, the call goes on and the case verifies. Ends at the first that does not hold; prints one JSON line.
//!
//! Usage: `fault_loop server|archivist|start|glasses [FIRST] [LAST]`, by default all. Sessions are made anew after every 20 faults.
//! `fault_loop away [SECONDS]`: the archivist is killed in a recorded session and stays away so long, by default 180 s.
#![allow(clippy::unwrap_used)]

use lotse_tests::{
    away, secs,
    writes::{self, ARCHIVIST_WRITES, ERRORS, SERVER_WRITES, Walk},
};
use serde_json::json;

/// Faults in one session.
const EACH: usize = 20;

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_else(|| "server".into());
    let mut number = || words.next().and_then(|w| w.parse().ok());
    if what == "away" {
        let found = away::for_so_long(1, secs(number().unwrap_or(180))).await;
        println!("{}", json!({ "archivist_away": found }));
        return;
    }
    let first: u64 = number().unwrap_or(1);
    let walk = if what == "glasses" { Some(Walk::begin(1).await) } else { None };
    let last = match (number(), what.as_str()) {
        (Some(last), _) => last,
        (None, "server") => SERVER_WRITES,
        (None, "archivist") => ARCHIVIST_WRITES,
        (None, _) => match &walk {
            Some(walk) => walk.without_fault().await,
            None => writes::of_a_first_start().await,
        },
    };
    let numbers: Vec<u64> = (first..=last).collect();
    match what.as_str() {
        "server" | "archivist" => {
            for (n, some) in numbers.chunks(EACH).enumerate() {
                if what == "server" {
                    writes::of_the_server(n as u64, some).await;
                } else {
                    writes::of_the_archivist(n as u64, some).await;
                }
            }
        }
        _ => {
            for number in &numbers {
                let errno = ERRORS[*number as usize % 2];
                match &walk {
                    Some(walk) => walk.with_fault(*number, errno).await,
                    None => writes::at_a_first_start(*number, errno).await,
                }
            }
        }
    }
    println!("{}", json!({ "failed_once": what, "first": first, "last": last, "held": numbers.len() }));
}
