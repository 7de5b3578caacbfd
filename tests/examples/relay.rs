//! A bad link for the demo and for benches: what a client says to the server goes through it, and a file says how the link is.
//!
//! Use: `relay SERVER LISTEN FILE SEED`, like `relay http://127.0.0.1:8080 127.0.0.1:8100 .demo/helmet-1/link 1`. The file says `cellar`, or
//! `loss=15 burst=5 delay=25` (`lotse_tests::network::Weather`); whoever writes something else into it changes the link at once.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lotse_tests::network::{Link, Weather};

const LOOK_EVERY: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), String> {
    let [server, listen, file, seed] = <[String; 4]>::try_from(std::env::args().skip(1).collect::<Vec<_>>())
        .map_err(|_| "usage: relay SERVER LISTEN FILE SEED".to_owned())?;
    let seed = seed.parse().map_err(|_| format!("{seed} is no seed: it is a whole number"))?;
    let file = PathBuf::from(file);
    let mut text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut weather: Weather = text.parse()?;
    let link = Link::at(&listen, &server, seed).await?;
    println!("{}", serde_json::json!({ "ready": true, "url": link.url }));
    loop {
        eprintln!("the link is {weather:?} now");
        tokio::select! {
            () = weather.keep(&link) => {}
            other = changed(&file, &mut text) => weather = other,
        }
    }
}

/// What is written into the file next.
async fn changed(file: &Path, text: &mut String) -> Weather {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // While it is being written it is empty.
        let Some(now) = std::fs::read_to_string(file).ok().filter(|now| now != text && !now.trim().is_empty()) else {
            continue;
        };
        text.clone_from(&now);
        match now.parse() {
            Ok(weather) => return weather,
            Err(e) => eprintln!("{}: {e}", file.display()),
        }
    }
}
