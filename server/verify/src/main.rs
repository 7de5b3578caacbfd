//! `lotse-verify BUNDLE`: is this case bundle what its log says, to the last byte?
//!
//! Owns: arguments, exit codes (0 agrees, 1 something was changed, 2 could not check). Never: opens a socket.
//! Elsewhere: the check (`lotse_verify::check`).

use std::{fs::File, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use lotse_protocol::id::Digest;
use lotse_verify::{
    Language, Options,
    check::{GivenHead, check},
    report::Verdict,
};

/// Checks a case bundle without any network.
///
/// Exit code 0: consistent, and authentic where a key was given. 1: something was changed, cut or added. 2: could not check.
#[derive(Parser)]
#[command(name = "lotse-verify", version)]
struct Args {
    /// The bundle (tar) to check.
    bundle: PathBuf,
    /// Fingerprint of the server's key (64 hex digits), from a source you trust.
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint)]
    org_key: Option<Digest>,
    /// A signed head somebody kept (JSON); the log must contain what it proves. May be given several times.
    #[arg(long, value_name = "FILE")]
    head: Vec<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Language of the report. Default: that of the system, else English.
    #[arg(long, value_enum)]
    language: Option<Words>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Words {
    De,
    En,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let language = match args.language {
        Some(Words::De) => Language::De,
        Some(Words::En) => Language::En,
        None => language_of_system(),
    };
    match run(&args, language) {
        Ok(Verdict::Changed) => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("lotse-verify: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args, language: Language) -> Result<Verdict, String> {
    let mut heads = Vec::new();
    for path in &args.head {
        let text = std::fs::read_to_string(path).map_err(|e| cannot_read(path, &e, language))?;
        heads.push(GivenHead { name: path.display().to_string(), text });
    }
    let mut file = File::open(&args.bundle).map_err(|e| cannot_read(&args.bundle, &e, language))?;
    let options = Options { server: args.org_key, heads };
    let report = check(&mut file, &options).map_err(|e| cannot_read(&args.bundle, &e, language))?;
    let text = if args.json {
        serde_json::to_string_pretty(&report.to_json(language)).map_err(|e| e.to_string())? + "\n"
    } else {
        report.to_text(language)
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| e.to_string())?;
    Ok(report.verdict())
}

fn cannot_read(path: &std::path::Path, e: &std::io::Error, language: Language) -> String {
    let path = path.display();
    match language {
        Language::En => {
            format!("{path} cannot be read: {e}. Name a file that exists and may be read.")
        }
        Language::De => {
            format!("{path} ist nicht lesbar: {e}. Eine vorhandene, lesbare Datei nennen.")
        }
    }
}

fn fingerprint(text: &str) -> Result<Digest, String> {
    let plain: String = text.chars().filter(|c| !matches!(c, ' ' | ':' | '-')).collect();
    plain.to_lowercase().parse().map_err(|_| "a fingerprint is 64 hex digits; the server prints it at its start".into())
}

fn language_of_system() -> Language {
    let value = ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|k| std::env::var(k).ok().filter(|v| !v.is_empty()));
    if value.is_some_and(|v| v.starts_with("de")) { Language::De } else { Language::En }
}
