//! `lotse-glass`: the program on the glasses.
//!
//! Owns: the command line and the log. Elsewhere: everything (`lib`).

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use lotse_glass::{app, capture::yuv::Rgba, config, doctor, error::GlassError, hud::gallery};
use tracing_subscriber::EnvFilter;

/// The WebRTC core is talkative; what it calls a warning is daily life of a radio link.
const LOG: &str = "info,rtc=error,rtc_ice=error,rtc_dtls=error,rtc_srtp=error,rtc_sctp=error,rtc_interceptor=error,webrtc=error,cosmic_text=error";

#[derive(Parser)]
#[command(
    name = "lotse-glass",
    version,
    about = "The smart glasses of a technician: camera and voice out, marks and voices in."
)]
struct Cli {
    /// Settings file; glass.toml explains every key.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until Ctrl-C.
    Run,
    /// Check settings, encoders, camera, sound and the way to the server.
    Doctor,
    /// Write every screen of the display in both languages as pictures.
    HudGallery {
        folder: PathBuf,
        /// A picture to put the marks on.
        #[arg(long)]
        picture: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));
    lotse_operations::log::start(filter);
    match start(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("lotse-glass: {e}");
            ExitCode::FAILURE
        }
    }
}

/// `false`: it ran, but not all is well.
fn start(cli: Cli) -> Result<bool, GlassError> {
    let settings = || config::load(cli.config.as_deref(), |name| std::env::var(name).ok());
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| GlassError::Ours(e.to_string()))
    };
    match cli.command {
        Command::Run => {
            let config = settings()?;
            let runtime = runtime()?;
            let result = runtime.block_on(app::run(config));
            // Device threads may sit in a driver: they do not hold up the end.
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            result.map(|()| true)
        }
        Command::Doctor => {
            let config = settings()?;
            Ok(runtime()?.block_on(doctor::check(&config)))
        }
        Command::HudGallery { folder, picture } => {
            let picture = picture.map(|p| open(&p)).transpose()?;
            let count = gallery::write(&folder, picture.as_ref())?;
            println!("{count} pictures in {}", folder.display());
            Ok(true)
        }
    }
}

fn open(path: &std::path::Path) -> Result<Rgba, GlassError> {
    let picture = image::open(path).map_err(|e| GlassError::file(path, e))?.into_rgba8();
    Ok(Rgba { width: picture.width(), height: picture.height(), pixels: picture.into_raw() })
}
