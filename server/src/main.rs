//! The program `lotse-server`: reads its command line and settings, then serves, administers or examines.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use lotse_server::{
    admin::{self, Admin},
    app, backup,
    config::Config,
    doctor,
    error::Error,
    metrics, shutdown,
};

/// The Lotse server: case logs, live sockets, media forwarding.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Settings file; see server.toml. Without it all defaults.
    #[arg(long, global = true, env = "LOTSE_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until Ctrl-C or SIGTERM.
    Serve,
    /// Accounts, devices, demo data.
    #[command(subcommand)]
    Admin(Admin),
    /// Examine settings, disk, keys, every stored log, ports and certificate. Exit code 1: something must be mended.
    Doctor {
        /// One JSON line per finding.
        #[arg(long)]
        json: bool,
    },
    /// Copy the data folder, also while serving, into a new folder; it gets its name once every log, digest and key was checked.
    Backup {
        folder: PathBuf,
        /// Also the keys that open it. Whoever has such a backup can read everything: keep it like the keys.
        #[arg(long)]
        with_keys: bool,
    },
    /// Check a backup and put it into the data folder of the settings, which must be empty.
    Restore { folder: PathBuf },
}

/// From this size on, bytes, memory goes back to the system when it is freed. A password takes 19 MiB, and by itself the
/// allocator learns to keep as much for every thread that ever checked one.
const GIVEN_BACK: libc::c_int = 1 << 20;

fn main() -> ExitCode {
    // SAFETY: it sets one number of the allocator, and no other thread runs yet.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, GIVEN_BACK) };
    begin()
}

#[tokio::main]
async fn begin() -> ExitCode {
    lotse_operations::log::start(
        tracing_subscriber::EnvFilter::try_from_env("LOTSE_LOG").unwrap_or_else(|_| "info,sqlx=warn,rtc=error".into()),
    );
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lotse-server: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let config = Config::load(arguments.config.as_deref(), |name| std::env::var(name).ok())?;
    match arguments.command {
        Command::Admin(command) => admin::run(&config, command).await,
        Command::Doctor { json } => match doctor::run(&config, json).await {
            true => Ok(()),
            false => Err(Error::operator("something must be mended", "Each line marked as not ok says how.")),
        },
        Command::Backup { folder, with_keys } => backup::make(&config, &folder, with_keys).await,
        Command::Restore { folder } => backup::restore(&config, &folder).await,
        Command::Serve => {
            let figures = lotse_operations::metrics::start(&config.metrics.listen)?;
            let started = app::start(config, shutdown::on_signals()?).await?;
            let metrics = metrics::serve(figures, started.app.clone()).await?;
            let url = started.app.config.url(started.http);
            let fingerprint = lotse_protocol::envelope::fingerprint(&started.app.keys.public());
            admin::print(&serde_json::json!({
                "ready": "lotse-server", "http": url, "listen": started.http, "udp": started.udp, "fingerprint": fingerprint, "metrics": metrics,
            }))?;
            started.serve().await
        }
    }
}
