//! `lotse-archivist`: the program around the archivist.
//!
//! Owns: the command line, the ready line, and the order of start and stop. Elsewhere: everything else (`lib`).

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use lotse_archivist::{
    archivist::Archivist,
    backup,
    bundle::{self, Maker},
    config::Config,
    doctor, enrol,
    error::{ArchivistError, Result},
    http,
    keys::Keys,
    link::{self, Link, ServerClock},
    metrics,
};
use tokio::sync::mpsc;

/// What is logged unless RUST_LOG says otherwise. The WebRTC core warns about things that are as they should be.
const LOG: &str =
    "warn,lotse_archivist=info,lotse_operations=info,rtc=error,rtc_dtls=error,rtc_ice=error,rtc_sctp=error";

#[derive(Parser)]
#[command(name = "lotse-archivist", version, about = "Records what everybody present allowed, and gives it back.")]
struct Arguments {
    /// Settings file; without it all defaults. archivist.toml shows every key.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until stopped.
    Serve,
    /// Look at everything a recording needs. Exit code 1: something must be mended.
    Doctor {
        /// One JSON line per finding.
        #[arg(long)]
        json: bool,
    },
    /// Copy the data folder, also while recording, into a new folder; it gets its name once every digest was checked.
    Backup {
        folder: PathBuf,
        /// Also the keys. Keep such a backup like the keys.
        #[arg(long)]
        with_keys: bool,
    },
    /// Check a backup and put it into the data folder of the settings, which must be empty.
    Restore { folder: PathBuf },
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG));
    lotse_operations::log::start(filter);
    let arguments = Arguments::parse();
    let config = match Config::load(arguments.config.as_deref(), |k| std::env::var(k).ok()) {
        Ok(config) => config,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(2);
        }
    };
    let done = match arguments.command {
        Command::Serve => serve(config).await,
        Command::Doctor { json } => {
            return if doctor::run(&config, json).await { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Command::Backup { folder, with_keys } => backup::make(&config, &folder, with_keys),
        Command::Restore { folder } => backup::restore(&config, &folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> Result<()> {
    let figures = lotse_operations::metrics::start(&config.metrics_listen)?;
    backup::check_folder(&config.data)?;
    bundle::clean(&config.data);
    let keys = Arc::new(Keys::open(&config.keys)?);
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .map_err(|source| ArchivistError::Listen { address: config.listen.to_string(), source })?;
    let tls = enrol::tls(&config, &keys)?;
    let client = enrol::client(tls.clone(), &config)?;
    let enrolment = wait_for_enrolment(&client, &config, &keys).await?;
    let clock = Arc::new(ServerClock::default());

    let (heard_tx, heard) = mpsc::channel(link::QUEUE);
    let (say, say_rx) = mpsc::channel(link::QUEUE);
    let (archivist, inbox) = Archivist::new(
        keys.clone(),
        config.name.clone(),
        config.data.clone(),
        enrolment.server_key,
        clock.clone(),
        say,
    );
    let maker = Maker {
        config: config.clone(),
        keys: keys.clone(),
        enrolment: enrolment.clone(),
        http: client.clone(),
        wants: archivist.wants.clone(),
    };
    let router = http::router(
        Arc::new(maker),
        clock.clone(),
        archivist.trouble.clone(),
        archivist.linked.clone(),
        archivist.media_way.clone(),
    );
    let metrics = metrics::serve(figures, config.data.clone(), archivist.trouble.clone()).await?;
    let address = listener
        .local_addr()
        .map_err(|source| ArchivistError::Listen { address: config.listen.to_string(), source })?;
    let served = tokio::spawn(async move { axum::serve(listener, router).await });
    let link = Link { config, keys, enrolment, clock, http: client, tls: Arc::new(tls) };
    let mut linked = tokio::spawn(link.run(heard_tx, say_rx));

    println!(
        "{}",
        serde_json::json!({ "ready": "lotse-archivist", "http": format!("http://{address}"), "metrics": metrics })
    );
    let ran = tokio::select! {
        ran = archivist.run(heard, inbox, stopped()) => ran,
        link = &mut linked => link.unwrap_or_else(|e| Err(ArchivistError::Media(e.to_string()))),
    };
    linked.abort();
    served.abort();
    ran
}

/// Both programs may start together: the server gets time to come up.
async fn wait_for_enrolment(
    client: &reqwest::Client,
    config: &Config,
    keys: &Keys,
) -> Result<lotse_archivist::keys::Enrolment> {
    let mut told = false;
    loop {
        match enrol::enrolment(client, config, keys).await {
            Err(e @ (ArchivistError::Server { .. } | ArchivistError::Distrusted { .. })) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("waiting: {e}");
                }
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            done => return done,
        }
    }
}

/// Ctrl-C or a polite kill.
async fn stopped() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
