//! Ctrl-C and SIGTERM, as verbs with a runtime of their own hear them: the first asks, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};

/// Never ends. `ask` marks that the end is wanted, and says whether it was wanted before; `told` is what the user reads then.
pub async fn listen(told: &str, mut ask: impl FnMut() -> bool) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if ask() {
            std::process::exit(130);
        }
        eprintln!("slotstorm: {told}; once more ends at once");
    }
}
