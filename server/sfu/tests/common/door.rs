//! A port that hands its connections to the SFU, as the HTTPS port of the server does.

use std::time::Duration;

use lotse_sfu::{FirstBytes, Sfu, first_bytes};
use tokio::net::TcpListener;

/// Hands connections over as the HTTPS port does.
pub async fn serve(listener: TcpListener, sfu: Sfu) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let sfu = sfu.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 2_048];
            loop {
                let n = stream.peek(&mut bytes).await.unwrap_or(0);
                match first_bytes(&bytes[..n]) {
                    FirstBytes::Request(len) => {
                        sfu.adopt(stream.into_std().expect("a socket"), &bytes[..len]);
                        return;
                    }
                    FirstBytes::TooFew if n > 0 => tokio::time::sleep(Duration::from_millis(5)).await,
                    _ => return,
                }
            }
        });
    }
}
