//! What forwarding costs: one publisher, many viewers, all on this machine; prints one JSON line.
//!
//! Usage: `bench_forward [ours|janus|janus1|probe] [VIEWERS] [SECONDS] [MBIT] [burst|even] [ROOMS] [WORKERS]`, by default
//! `ours 100 8 2 burst 1 1`. Several rooms (ours only) have a publisher and so many viewers each, and a loader each.
//! `janus` is Debian's Janus with its VideoRoom as it comes, `janus1` the same with one event loop for all; both are
//! driven by the same loader with the same SRTP profile. `probe` is the least that any forwarder has to do for a packet.
//! Janus takes no loopback address: `LOTSE_BENCH_IP` names another one of this machine (`tests/bench.mjs` makes one in a
//! network namespace of its own).
//! CPU time is that of everything but the loader, kernel work for its calls included, over packets that arrived.

mod janus;
mod loader;
mod ours;
mod probe;

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Stdio,
    time::{Duration, Instant},
};

use loader::{Measured, Order, Said};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// What a run is asked to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) viewers: u32,
    seconds: u64,
    mbit: f64,
    pace: String,
    rooms: u32,
    workers: usize,
}

/// The loader's process.
pub(crate) struct Loader {
    _child: Child,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Loader {
    async fn start(plan: &Plan) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["loader", &plan.mbit.to_string(), &plan.pace])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a loader");
        let orders = child.stdin.take().expect("piped");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { _child: child, orders, said }
    }

    pub(crate) async fn tell(&mut self, order: &Order) {
        let line = serde_json::to_string(order).expect("text") + "\n";
        self.orders.write_all(line.as_bytes()).await.expect("the loader listens");
    }

    async fn said(&mut self) -> Said {
        let line = self.said.next_line().await.expect("the loader speaks").expect("the loader lives");
        serde_json::from_str(&line).expect("what a loader says")
    }

    /// The next description.
    pub(crate) async fn sdp(&mut self) -> (u32, String) {
        match self.said().await {
            Said::Sdp { who, sdp } => (who, sdp),
            Said::Measured(_) => panic!("it was not told to end"),
        }
    }

    async fn end(mut self) -> Measured {
        self.tell(&Order::End).await;
        loop {
            if let Said::Measured(measured) = self.said().await {
                return measured;
            }
        }
    }
}

/// Measures what is connected now; `cpu_us` and `memory_kb` are asked before and after.
pub(crate) async fn measure(
    plan: &Plan,
    mut loaders: Vec<Loader>,
    cpu_us: impl Fn() -> u64,
    memory_kb: impl Fn() -> u64,
) -> Value {
    tokio::time::sleep(Duration::from_secs(2)).await;
    for loader in &mut loaders {
        loader.tell(&Order::Begin).await;
    }
    let (before, start) = (cpu_us(), Instant::now());
    tokio::time::sleep(Duration::from_secs(plan.seconds)).await;
    let (cpu, took) = (cpu_us() - before, start.elapsed().as_secs_f64());
    let memory = memory_kb();
    // The slowest room's delays stand for all.
    let mut measured = Measured { sent: 0, received: 0, p50_us: 0, p99_us: 0 };
    for loader in loaders {
        let one = loader.end().await;
        measured.sent += one.sent;
        measured.received += one.received;
        measured.p50_us = measured.p50_us.max(one.p50_us);
        measured.p99_us = measured.p99_us.max(one.p99_us);
    }
    let expected = (measured.sent * u64::from(plan.viewers)).max(1);
    json!({
        "rooms": plan.rooms,
        "workers": plan.workers,
        "viewers": plan.viewers,
        "mbit": plan.mbit,
        "pace": plan.pace,
        "packets_per_s": measured.received as f64 / took,
        "cpu_us_per_packet": cpu as f64 / measured.received.max(1) as f64,
        "cpu_pct_of_a_core": cpu as f64 / took / 1e4,
        "delivered_pct": measured.received as f64 * 100.0 / expected as f64,
        "p50_ms": f64::from(measured.p50_us) / 1e3,
        "p99_ms": f64::from(measured.p99_us) / 1e3,
        "memory_mb": memory as f64 / 1e3,
    })
}

/// Where all of it listens.
pub(crate) fn address() -> IpAddr {
    let named = std::env::var("LOTSE_BENCH_IP").ok().and_then(|ip| ip.parse().ok());
    named.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Resident memory of a process, kB.
pub(crate) fn memory_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |n: usize| words.get(n).map(String::as_str);
    let number = |n: usize| word(n).and_then(|word| word.parse::<f64>().ok());
    let what = word(0).unwrap_or("ours");
    if what == "loader" {
        return loader::run(number(1).unwrap_or(2.0), word(2) == Some("even"));
    }
    let plan = Plan {
        viewers: number(1).unwrap_or(100.0) as u32,
        seconds: number(2).unwrap_or(8.0) as u64,
        mbit: number(3).unwrap_or(2.0),
        pace: word(4).unwrap_or("burst").to_owned(),
        rooms: number(5).unwrap_or(1.0) as u32,
        workers: number(6).unwrap_or(1.0) as usize,
    };
    let figures = match what {
        "probe" => probe::run(),
        "janus" => janus::run(&plan, None).await,
        "janus1" => janus::run(&plan, Some(1)).await,
        _ => ours::run(&plan).await,
    };
    println!("{figures}");
}
