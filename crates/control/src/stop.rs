//! A signal that is raised once, and stays so.

use tokio::sync::watch;

/// Raises the signal.
#[derive(Debug)]
pub(crate) struct Raise(watch::Sender<bool>);

/// Waits for the signal.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Raise {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn signal(&self) -> Stop {
        Stop(self.0.subscribe())
    }

    pub(crate) fn raise(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Ready as soon as the signal is raised, or nobody is left who could. Safe to cancel.
    pub(crate) async fn raised(&mut self) {
        match self.0.wait_for(|raised| *raised).await {
            Ok(_) | Err(_) => {}
        }
    }
}
