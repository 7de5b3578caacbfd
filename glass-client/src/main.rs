//! `lotse-glass`: the program on the glasses.
//!
//! Owns: the command line. Elsewhere: everything (`lib`).

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use lotse_glass::hud::gallery;

#[derive(Parser)]
#[command(name = "lotse-glass", version, about = "The smart glasses of a technician: camera and voice out, marks and voices in.")]
struct Cli {
    /// Settings file; see glass.toml.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write every screen of the display in both languages as pictures.
    HudGallery {
        folder: PathBuf,
        /// A picture to put the marks on.
        #[arg(long)]
        picture: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::HudGallery { folder, picture } => {
            let picture = picture.and_then(|p| image::open(p).ok()).map(|p| {
                let p = p.into_rgba8();
                lotse_glass::capture::yuv::Rgba { width: p.width(), height: p.height(), pixels: p.into_raw() }
            });
            gallery::write(&folder, picture.as_ref()).map(|n| eprintln!("{n} pictures in {}", folder.display()))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lotse-glass: {e}");
            ExitCode::FAILURE
        }
    }
}
