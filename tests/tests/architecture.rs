//! docs/ARCHITECTURE.md names files and symbols; each of them exists.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use lotse_tests::program::root;

/// Words in backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn is_path(word: &str) -> bool {
    word.contains('/') && !word.starts_with('/') && !word.contains(' ') && !word.contains(':')
}

/// A name as code has it: with an underscore, capitals inside, or a call.
fn is_symbol(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    let camel = word.chars().skip(1).any(|c| c.is_ascii_uppercase()) && word.chars().any(|c| c.is_ascii_lowercase());
    plain && (word.contains('_') || camel) && !word.starts_with('.')
}

fn sources(folder: &Path, out: &mut String) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["node_modules", "target", "dist", ".git", "out"].contains(&name.as_str()) {
                sources(&path, out);
            }
        } else if ["rs", "ts", "svelte", "sql", "toml", "sh"].iter().any(|e| name.ends_with(&format!(".{e}"))) {
            out.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

#[test]
fn every_file_and_symbol_named_in_architecture_exists() {
    let root = root();
    let text = std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let mut all = String::new();
    for folder in ["server", "glass-client", "web-expert/src", "tests"] {
        sources(&root.join(folder), &mut all);
    }
    let (mut files, mut symbols, mut missing) = (0, 0, Vec::new());
    // A symbol stands in one of the files that its own paragraph names; where it names none, anywhere.
    let mut paragraph: Vec<PathBuf> = Vec::new();
    for line in text.lines() {
        let starts = line.trim_start().starts_with(|c: char| c.is_ascii_digit())
            || line.trim().is_empty()
            || line.starts_with('|');
        if starts {
            paragraph.clear();
        }
        for word in code(line) {
            if is_path(word) {
                files += 1;
                if root.join(word).exists() {
                    paragraph.push(root.join(word));
                } else {
                    missing.push(format!("file {word}"));
                }
            } else if is_symbol(word) {
                symbols += 1;
                let name = word.rsplit('.').next().unwrap();
                let near = paragraph.iter().filter_map(|f| std::fs::read_to_string(f).ok()).any(|t| t.contains(name));
                if !near && !all.contains(name) {
                    missing.push(format!("symbol {word}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md names what does not exist: {missing:?}");
    assert!(files > 20 && symbols > 5, "{files} files and {symbols} symbols: is this still the page it was?");
}
