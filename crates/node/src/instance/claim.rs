//! An instance that nobody plays yet, and how it becomes somebody's.
//!
//! A claim changes what is desired of it: whose save it is, how long its player is waited for, in which trace its steps stand. What runs goes on.

use api::node::{DesiredInstance, InstanceState};
use api::streamer::ToStreamer;

use super::{End, Life};
use crate::game::Screen;

impl Life {
    /// Everything stands but the save and the game.
    pub(super) fn hold(&mut self, screen: Screen) {
        if self.screen.is_some() {
            tracing::error!(instance = %self.id(), "the streamer said twice that it is ready");
            return;
        }
        self.screen = Some(screen);
        self.deadline = None;
        self.set_state(InstanceState::Prepared);
    }

    /// Takes what is desired now.
    pub(super) fn becomes(&mut self, desired: DesiredInstance) {
        self.steps.claimed(&desired);
        self.instance.desired = desired;
        // Nothing of this player's is a version yet.
        self.committed = 0;
    }

    /// Makes it somebody's: with his save, waiting for him, and its game running.
    pub(super) async fn claim(&mut self, desired: DesiredInstance) -> Result<(), End> {
        tracing::info!(instance = %self.id(), after_ms = self.age_ms(), "claimed");
        self.becomes(desired);
        // A save belongs to a game that has not begun: the control plane lets none run warm that keeps any.
        if self.game.is_none() {
            self.begin_saves().await?;
        }
        let desired = &self.instance.desired;
        let (connect_timeout_s, resizable) = (desired.connect_timeout_s, desired.resizable);
        if let Some(streamer) = &mut self.streamer {
            // One that is gone is noticed by its end.
            streamer.send(&ToStreamer::Claimed { connect_timeout_s, resizable }).await;
        }
        match self.screen.take() {
            Some(screen) => self.start_game(screen).await,
            None => Ok(()),
        }
    }
}
