//! Ctrl-C and SIGTERM, heard in one place for every verb: the first asks for the end, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Whether the user wants the verb to end.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    told: Arc<Notify>,
}

impl Interrupt {
    /// Listens from now on. All that call it share one listener: whoever runs storms inside a verb hears what the verb hears.
    pub fn listen() -> Self {
        static HEARD: OnceLock<Interrupt> = OnceLock::new();
        HEARD.get_or_init(Self::begin).clone()
    }

    fn begin() -> Self {
        let heard = Self::default();
        let teller = heard.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(teller.hear());
            }
        });
        heard
    }

    async fn hear(&self) {
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
            if self.asked.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            self.told.notify_waiters();
            eprintln!("slotstorm: ending what runs, judging what there is; once more ends at once");
        }
    }

    /// True once the user wants it to end.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Ends when the user wants it to.
    pub async fn asked(&self) {
        let told = self.told.notified();
        if !self.is_asked() {
            told.await;
        }
    }

    /// For workers on other threads, which look at it from time to time.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }
}
