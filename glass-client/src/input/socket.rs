//! `socket:PATH`: a Unix socket, one word a line, answered `ok WORD` or `error WORD: why`.
//!
//! Owns: the socket file (0600). Never: a line longer than any word.

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use super::Words;
use crate::error::GlassError;

/// Longer lines end the connection, bytes.
const LINE: u64 = 128;
/// Connections at a time.
const CONNECTIONS: usize = 8;

/// Listens until the program ends.
pub fn listen(path: &Path, words: Words) -> Result<(), GlassError> {
    let broken = |why: String| GlassError::Input { what: format!("socket:{}", path.display()), why };
    // A socket left behind by a crash; anything else at this path is not ours to remove.
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt as _;
        if !meta.file_type().is_socket() {
            return Err(broken("there is another file".into()));
        }
        std::fs::remove_file(path).map_err(|e| broken(e.to_string()))?;
    }
    let listener = UnixListener::bind(path).map_err(|e| broken(e.to_string()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|e| broken(e.to_string()))?;
    tokio::spawn(async move {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(place) = free.clone().acquire_owned().await else { return };
            let words = words.clone();
            tokio::spawn(async move {
                // A client that goes away is no trouble.
                let _ = serve(stream, &words).await;
                drop(place);
            });
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, words: &Words) -> std::io::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        let read = (&mut from).take(LINE).read_until(b'\n', &mut line).await?;
        if read == 0 || (read as u64 == LINE && line.last() != Some(&b'\n')) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let answer = match words.say(text).await {
            Ok(()) => format!("ok {text}\n"),
            Err(why) => format!("error {text}: {why}\n"),
        };
        to.write_all(answer.as_bytes()).await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::{config::Language, core::Word};

    #[tokio::test]
    async fn words_are_answered_line_by_line() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("words");
        let (tx, mut rx) = mpsc::channel(4);
        listen(&path, Words::new(tx, Language::En)).expect("listens");
        tokio::spawn(async move {
            while let Some((word, reply)) = rx.recv().await {
                let _ = reply.send(if word == Word::Done { Ok(()) } else { Err("not now".into()) });
            }
        });
        let stream = UnixStream::connect(&path).await.expect("connects");
        let (from, mut to) = stream.into_split();
        to.write_all(b"DONE\n\nCALL\nDANCE\n").await.expect("writes");
        let mut lines = BufReader::new(from).lines();
        for expected in ["ok DONE", "error CALL: not now", "error DANCE: no such word"] {
            assert_eq!(lines.next_line().await.expect("reads").as_deref(), Some(expected));
        }
        to.write_all(&[b'x'; 300]).await.expect("writes");
        assert_eq!(lines.next_line().await.expect("reads"), None, "a line without end ends the connection");
    }

    #[tokio::test]
    async fn what_no_core_was_asked_for_is_refused_in_the_language_of_the_display() {
        let (tx, rx) = mpsc::channel(1);
        let words = Words::new(tx, Language::De);
        assert_eq!(words.say("DANCE").await, Err("dieses Wort gibt es nicht".into()));
        // Nobody answers the first one.
        let waits = tokio::spawn({
            let words = words.clone();
            async move { words.say("CALL").await }
        });
        while rx.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(words.say("CALL").await, Err("gerade beschäftigt, noch einmal sagen".into()));
        drop(rx);
        assert_eq!(waits.await.expect("runs"), Err("das Programm wird gerade beendet".into()));
    }

    #[tokio::test]
    async fn a_file_at_the_path_is_left_alone() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("precious");
        std::fs::write(&path, "keep").expect("writes");
        let (tx, _rx) = mpsc::channel(1);
        assert!(listen(&path, Words::new(tx, Language::En)).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("kept"), "keep");
    }
}
