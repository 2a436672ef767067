//! When to stop: a signal, or the end of the parent process.

use std::io::Read;

use tokio_util::sync::CancellationToken;

/// A token that is cancelled at the first SIGINT or SIGTERM; the second ends the process at once.
///
/// # Errors
/// When the signal handlers can't be installed.
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
            // Whoever asks twice does not want to wait for anything.
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

/// Cancels `stop` when standard input ends.
///
/// A supervisor holds the other end of the pipe, so that its children stop even when it was killed and
/// could not tell them. Reading a pipe blocks, hence the thread; it ends with the process.
pub fn on_end_of_input(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut sink = [0_u8; 256];
        let mut input = std::io::stdin();
        while matches!(input.read(&mut sink), Ok(count) if count > 0) {}
        stop.cancel();
    });
}
