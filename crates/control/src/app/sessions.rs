//! Sessions: create, list, end.

use std::time::{Duration, Instant};

use api::id::{InstanceId, SessionId};
use api::problem::{Problem, ProblemKind};
use api::rest::{CreateSession, CreatedSession, Session, SessionList, SessionStatistics};
use api::session::{EndReason, SessionState};
use tracing::{error, info};
use uuid::Uuid;

use super::access::{Caller, operator};
use super::admission::{Refused, admit};
use super::token::new_session_token;
use super::{Plane, broken, now};
use crate::reconcile;
use crate::store::SessionRecord;

/// Whose sessions the operator's are. No hash of an address looks like this.
const OPERATOR_PLAYER: &str = "operator";

impl Plane {
    /// Creates a session and has the node told at once.
    pub(crate) async fn create_session(
        &self,
        caller: &Caller,
        player: String,
        request: CreateSession,
    ) -> Result<CreatedSession, Problem> {
        let is_operator = match caller {
            Caller::Operator => true,
            Caller::Nobody if self.settings.guests => false,
            Caller::Nobody | Caller::Player(_) => operator(caller).map(|()| true)?,
        };
        if self.is_stopping() {
            return Err(Refused::Stopping.problem());
        }
        let package = self.catalogue.package(request.app.as_str())?;
        let range = package.manifest.spec;
        let spec = request.spec.unwrap_or(range.default);
        range.check(spec).map_err(|error| ProblemKind::SpecOutOfRange.because(format!("The spec's {error}.")))?;
        let (player, per_player) = if is_operator {
            (OPERATOR_PLAYER.to_owned(), u32::MAX)
        } else {
            self.creations.take(&player, Instant::now()).map_err(|wait| too_often("Sessions were created", wait))?;
            (player, self.settings.limits.sessions_per_player)
        };
        let (token, hash) = new_session_token().map_err(|error| {
            error!(error = &error as &dyn std::error::Error, "no token could be made");
            ProblemKind::Internal.plain()
        })?;
        let created_at = now();
        let record = SessionRecord {
            id: SessionId::from_uuid(Uuid::now_v7()),
            instance: InstanceId::from_uuid(Uuid::now_v7()),
            epoch: 1,
            app: package.manifest.name.clone(),
            spec,
            resizable: request.resizable,
            player,
            state: SessionState::Reserved,
            observed: false,
            first_frame: false,
            revision: 1,
            created_at,
            changed_at: created_at,
            ends_at: created_at.plus(self.settings.limits.session_length),
            token_hash: hash.bytes(),
            token_expires_at: created_at.plus(self.settings.limits.token_lifetime),
        };
        self.claim(&record, per_player).await?;
        self.coordinator.want();
        let (session, app) = (record.id, &record.app);
        info!(%session, %app, instance = %record.instance, "session created");
        Ok(CreatedSession {
            session: record.view(),
            token,
            token_expires_at: record.token_expires_at,
            link: format!("/v1/sessions/{session}/link"),
            whep: format!("/v1/sessions/{session}/whep"),
        })
    }

    /// Takes a place for a session.
    async fn claim(&self, record: &SessionRecord, per_player: u32) -> Result<(), Problem> {
        let node = self.coordinator.node();
        let room = self.coordinator.open(record.id);
        let claimed = self.store.claim(record, |usage| admit(&node, usage, record.spec, per_player)).await;
        claimed.map_err(broken)?.map_err(|refused| {
            info!(app = %record.app, reason = refused.sentence(), "session refused");
            refused.problem()
        })?;
        room.keep();
        Ok(())
    }

    /// The newest sessions.
    pub(crate) async fn list_sessions(&self, caller: &Caller) -> Result<SessionList, Problem> {
        operator(caller)?;
        let records = self.store.newest_sessions().await.map_err(broken)?;
        Ok(SessionList { sessions: records.iter().map(SessionRecord::view).collect() })
    }

    /// Ends a session. Asking again changes nothing.
    pub(crate) async fn end_session(&self, record: &SessionRecord, reason: EndReason) -> Result<Session, Problem> {
        let ended = reconcile::request_stop(self, record.id, reason).await.map_err(broken)?;
        ended.map(|record| record.view()).ok_or_else(|| ProblemKind::SessionUnknown.plain())
    }

    /// The newest figures of a session.
    pub(crate) fn session_statistics(&self, record: &SessionRecord) -> SessionStatistics {
        let nothing = SessionStatistics { measured_at: None, stream: api::streamer::StreamStatistics::default() };
        self.coordinator.statistics(record.id).unwrap_or(nothing)
    }
}

/// The problem of somebody who has to wait.
pub(super) fn too_often(what: &str, wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    ProblemKind::RateLimited.because(format!("{what} too often.")).retry_after(seconds)
}
