//! Hears Ctrl-C and SIGTERM and tells everybody who waits for the end.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Turns true once, when it is time to stop.
pub type Stop = watch::Receiver<bool>;

/// Waits until it is time to stop.
pub async fn stopped(mut stop: Stop) {
    // An error means the sender is gone: that is the end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Becomes true at the first Ctrl-C or SIGTERM.
pub fn on_signals() -> std::io::Result<Stop> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        tracing::info!("stopping: finishing what was begun");
        let _ = sender.send(true);
    });
    Ok(receiver)
}
