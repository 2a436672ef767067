//! Stops the process on a signal, or when its parent ends.

use std::io::Read;

use tokio_util::sync::CancellationToken;

/// Returns a token that the first SIGINT or SIGTERM cancels. The second signal exits at once.
///
/// # Errors
/// If the signal handlers can't be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            tracing::info!(signal = name, "stopping");
            cancelled.cancel();
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            tracing::info!("stopping");
            cancelled.cancel();
        }
    });
    Ok(stop)
}

/// Cancels `stop` when standard input closes.
///
/// A supervisor holds the other end of the pipe, so its children stop even if it is killed. Reading blocks, so it runs
/// on a thread that ends with the process.
pub fn on_end_of_input(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut sink = [0_u8; 256];
        let mut input = std::io::stdin();
        while matches!(input.read(&mut sink), Ok(count) if count > 0) {}
        stop.cancel();
    });
}
