//! The save around an instance's life: written before its game starts, captured while it runs and after it ended.

use std::time::Duration;

use api::node::{ObservedSave, SaveKind};
use api::saves::SaveFailure;
use api::session::EndReason;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{Capture, Command, End, Life};
use crate::game::describe;
use crate::saves::Saves;
use crate::steps::{Begun, Stage};

/// How long a capture may take to become a version. A control plane that restarts is back sooner; longer holds the place of an instance
/// that has ended.
const COMMIT_LIMIT: Duration = Duration::from_secs(45);

impl Life {
    /// Writes the player's save. A play without it would end in a version without it: rather none.
    pub(super) async fn begin_saves(&mut self) -> Result<(), End> {
        let Some(saves) = &self.instance.desired.saves else { return Ok(()) };
        let written = Begun::now();
        let (store, manifest) = (self.instance.volume.store().clone(), &self.instance.desired.manifest);
        let begun = Saves::begin(store, saves, manifest, &self.place, self.instance.uid).await;
        let failure = begun.as_ref().err().map(|error| describe(error));
        self.steps.done(Stage::Save, written, failure.as_deref());
        let begun = begun.map_err(|_told| (EndReason::SaveFailed, failure))?;
        tracing::debug!(instance = %self.id(), after_ms = self.age_ms(), "the save is written");
        self.saves = Some(begun);
        self.has_saves_begun = true;
        self.plan_checkpoint();
        Ok(())
    }

    fn plan_checkpoint(&mut self) {
        let seconds = self.instance.desired.manifest.saves.checkpoint_s;
        self.checkpoint_at = (seconds > 0).then(|| Instant::now() + Duration::from_secs(u64::from(seconds)));
    }

    /// Begins a checkpoint, unless one is being made.
    pub(super) fn checkpoint(&mut self) {
        self.plan_checkpoint();
        let Some(mut saves) = self.saves.take() else { return };
        self.checkpoint = Some(tokio::spawn(async move {
            let captured = saves.capture(SaveKind::Checkpoint).await;
            (saves, captured)
        }));
    }

    pub(super) fn checkpoint_done(&mut self, done: Result<Capture, JoinError>) {
        self.checkpoint = None;
        match done {
            Ok((saves, captured)) => {
                self.saves = Some(saves);
                match captured {
                    Ok(Some(saved)) => self.report_save(saved),
                    Ok(None) => {}
                    // The next one comes soon, and the one at the end.
                    Err(error) => {
                        tracing::warn!(instance = %self.id(), error = &error as &dyn std::error::Error, "no checkpoint was made");
                        self.report_save_failure(error.failure());
                    }
                }
            }
            Err(error) => tracing::error!(instance = %self.id(), %error, "a checkpoint broke"),
        }
    }

    fn report_save(&self, saved: ObservedSave) {
        let (sequence, bytes, settled) = (saved.sequence, saved.bytes, saved.settled);
        tracing::info!(instance = %self.id(), sequence, bytes, kind = ?saved.kind, settled, "save captured");
        self.observed.send_modify(|observed| {
            observed.saved = Some(saved);
            observed.save_failure = None;
        });
    }

    fn report_save_failure(&self, failure: SaveFailure) {
        self.observed.send_modify(|observed| observed.save_failure = Some(failure));
    }

    /// Captures the save after the game's end and waits until it is a version. False when it is not: then the files are kept.
    pub(super) async fn archive(&mut self, commands: &mut mpsc::Receiver<Command>) -> bool {
        if let Some(running) = self.checkpoint.take() {
            self.checkpoint_done(running.await);
        }
        let Some(saves) = &mut self.saves else {
            // None is kept, no game was ever started, or the work on it broke, which was said.
            return self.instance.desired.saves.is_none() || !self.has_saves_begun;
        };
        match saves.capture(SaveKind::Final).await {
            Ok(Some(saved)) => self.report_save(saved),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(instance = %self.id(), error = &error as &dyn std::error::Error, "the save was not captured");
                self.report_save_failure(error.failure());
                return false;
            }
        }
        let wanted = self.observed.borrow().saved.as_ref().map_or(0, |saved| saved.sequence);
        let committed = async {
            while self.committed < wanted {
                match commands.recv().await {
                    Some(Command::Committed(sequence)) => self.committed = self.committed.max(sequence),
                    // Dropped: who waits for an answer is told that the instance is gone.
                    Some(
                        Command::Offer { .. }
                        | Command::Stop(_)
                        | Command::Claim(_)
                        | Command::Script { .. }
                        | Command::Screenshot { .. },
                    ) => {}
                    None => return false,
                }
            }
            true
        };
        tokio::time::timeout(COMMIT_LIMIT, committed).await.unwrap_or(false)
    }
}
