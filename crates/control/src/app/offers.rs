//! WHEP: a player's offer goes to the session's streamer, its answer comes back.

use std::time::Duration;

use api::node::OfferFailure;
use api::problem::{Problem, ProblemKind};
use api::session::{PrepareStage, SessionState};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::info;
use uuid::Uuid;

use super::rate::Rate;
use super::sessions::too_often;
use super::{Plane, broken};
use crate::coordinator::OfferCommand;
use crate::store::SessionRecord;

/// How long an offer may take in all: a cold start of the streamer takes up to five seconds on a slow machine; browsers
/// and proxies give up after thirty or more.
const OFFER_LIMIT: Duration = Duration::from_secs(20);

/// Offers that a session may send at once after a pause: the first, and a few reconnects on a bad network.
const OFFER_BURST: u32 = 6;

/// Longest reason of the streamer that is passed on, in characters.
const MAX_DETAIL: usize = 300;

/// An answered offer.
#[derive(Debug)]
pub(crate) struct Answered {
    /// Names the peer from now on.
    pub(crate) peer: String,
    /// The answer.
    pub(crate) sdp: String,
}

impl Plane {
    /// Has an offer answered. One that comes before the streamer is up waits for it.
    pub(crate) async fn answer_offer(&self, record: &SessionRecord, sdp: String) -> Result<Answered, Problem> {
        let limits = &self.settings.limits;
        let rate = Rate { burst: OFFER_BURST, per_minute: limits.offers_per_minute };
        if record.state.is_ended() {
            return Err(over(record.state));
        }
        self.coordinator.take_offer(record.id, rate).map_err(|wait| too_often("Offers were sent", wait))?;
        if !sdp.starts_with("v=0") {
            return Err(ProblemKind::InvalidOffer.because("The body is no SDP: it does not begin with `v=0`."));
        }
        let deadline = Instant::now() + OFFER_LIMIT;
        match timeout_at(deadline, self.streamer_up(record)).await {
            Ok(up) => up?,
            Err(_elapsed) => return Err(slow()),
        }
        // Read after the wait: it may have another node than before it.
        let up = self.store.session(record.id).await.map_err(broken)?;
        let (node, epoch) = up.map_or((record.node, record.epoch), |up| (up.node, up.epoch));
        let (reply, answer) = oneshot::channel();
        let offer = OfferCommand { instance: record.instance, epoch, sdp, reply };
        let outcome = timeout_at(deadline, async {
            let node = node.ok_or(OfferFailure::Gone)?;
            self.coordinator.fleet.send_offer(node, offer).await?;
            answer.await.unwrap_or(Err(OfferFailure::Gone))
        });
        match outcome.await {
            Ok(Ok(sdp)) => {
                let peer = Uuid::now_v7().simple().to_string();
                self.coordinator.set_peer(record.id, peer.clone());
                info!(session = %record.id, "offer answered");
                Ok(Answered { peer, sdp })
            }
            Ok(Err(failure)) => Err(self.failed(record, failure).await?),
            Err(_elapsed) => Err(slow()),
        }
    }

    /// Forgets a peer. Its streamer has seen the connection close by itself; the session waits for the player to come back.
    pub(crate) fn remove_peer(&self, record: &SessionRecord, peer: &str) -> Result<(), Problem> {
        if self.coordinator.remove_peer(record.id, peer) {
            Ok(())
        } else {
            Err(ProblemKind::PeerUnknown.because("The session has no such peer; a newer offer replaces an older one."))
        }
    }

    /// Waits until the session's streamer takes offers.
    async fn streamer_up(&self, record: &SessionRecord) -> Result<(), Problem> {
        let mut watch = self.coordinator.watch_session(record.id);
        let Some(mut session) = self.store.session(record.id).await.map_err(broken)?.map(|record| record.view()) else {
            return Err(ProblemKind::SessionUnknown.plain());
        };
        loop {
            match session.state {
                SessionState::Requested
                | SessionState::Queued { .. }
                | SessionState::Offered { .. }
                | SessionState::Recovering { .. }
                | SessionState::Reserved
                | SessionState::Preparing { stage: PrepareStage::Content | PrepareStage::Streamer } => {}
                SessionState::Preparing { stage: PrepareStage::Game }
                | SessionState::Ready { .. }
                | SessionState::Connected { .. }
                | SessionState::Reconnecting { .. } => return Ok(()),
                SessionState::Stopping { .. } | SessionState::Ended { .. } => return Err(over(session.state)),
            }
            if watch.changed().await.is_err() {
                return Err(ProblemKind::SessionEnded.plain());
            }
            if let Some(newer) = watch.borrow_and_update().clone() {
                session = newer;
            }
        }
    }

    async fn failed(&self, record: &SessionRecord, failure: OfferFailure) -> Result<Problem, Problem> {
        Ok(match failure {
            OfferFailure::Refused { detail } => {
                let detail: String = detail.chars().take(MAX_DETAIL).collect();
                let detail = detail.trim_end_matches('.');
                ProblemKind::InvalidOffer.because(format!("The streamer cannot use the offer: {detail}."))
            }
            // No streamer is ever busy.
            OfferFailure::Timeout | OfferFailure::Busy => slow(),
            OfferFailure::Gone => match self.store.session(record.id).await.map_err(broken)? {
                Some(record) if matches!(record.state, SessionState::Stopping { .. } | SessionState::Ended { .. }) => {
                    over(record.state)
                }
                Some(_) | None => ProblemKind::StreamerUnreachable.because("The session's streamer is not there."),
            },
        })
    }
}

fn over(state: SessionState) -> Problem {
    ProblemKind::SessionEnded.because(state.sentence())
}

fn slow() -> Problem {
    ProblemKind::StreamerTimeout.because("The session's streamer did not answer in time.")
}
