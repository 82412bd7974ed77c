//! Sessions: create, list, end.

use std::time::{Duration, Instant};

use api::access::Right;
use api::content::STABLE;
use api::fleet::Placement;
use api::id::{InstanceId, PlayerId, SessionId};
use api::manifest::ConcurrentSaves;
use api::problem::{Problem, ProblemKind};
use api::rest::{CreateSession, CreatedSession, Session, SessionList, SessionStatistics};
use api::session::{EndReason, SessionState};
use api::tenant::TenantState;
use api::trace::TraceParent;
use serde_json::json;
use tracing::info;
use uuid::Uuid;

use super::access::{Caller, operator};
use super::admission::{Most, Refused, admit};
use super::releases::OPERATOR_TENANT;
use super::token::new_session_token;
use super::{Plane, broken, no_randomness, now};
use crate::demand::Demand;
use crate::reconcile;
use crate::store::{Changed, Claimed, SaveRule, SessionRecord};

/// How long the answer waits for a place to be decided on. It takes milliseconds; who is answered without hears of it over the link.
const DECISION_LIMIT: Duration = Duration::from_secs(3);

/// Where the operator's sessions come from. No hash of an address looks like this.
const OPERATOR_ADDRESS: &str = "operator";

/// Who asks for a session, and how many he may have.
struct Asker {
    /// Keyed hash of his address.
    address: String,
    player_id: Option<PlayerId>,
    /// `None`: as many as there are places.
    most: Option<u32>,
}

impl Plane {
    /// May he have sessions?
    fn asker(&self, caller: &Caller, address: String, player: Option<PlayerId>) -> Result<Asker, Problem> {
        let player_id = match caller {
            Caller::Operator(_) => {
                return Ok(Asker { address: OPERATOR_ADDRESS.to_owned(), player_id: player, most: None });
            }
            // What he ordered bounds him.
            Caller::Tenant(tenant) => {
                tenant.may(Right::SessionsWrite)?;
                let address = format!("tenant {}", tenant.tenant);
                return Ok(Asker { address, player_id: player, most: None });
            }
            Caller::Nobody | Caller::Session(_) | Caller::Player(_) if player.is_some() => {
                return Err(
                    ProblemKind::Forbidden.because("Only the operator and tenants name the player of a session.")
                );
            }
            Caller::Player(player) if self.settings.guests || !player.guest => Some(player.id),
            // He made himself while guests could play: the operator has closed the house since.
            Caller::Player(_) => return Err(ProblemKind::Forbidden.because("Guests may not play here any more.")),
            Caller::Nobody if self.settings.guests => None,
            Caller::Nobody | Caller::Session(_) => operator(caller).map(|()| None)?,
        };
        Ok(Asker { address, player_id, most: Some(self.settings.limits.sessions_per_player) })
    }

    /// May he play, so that he may ask how far sites are?
    pub(crate) fn may_play(&self, caller: &Caller) -> Result<(), Problem> {
        self.asker(caller, String::new(), None).map(drop)
    }

    /// Creates a session: when this returns it has its place, or waits for one.
    pub(crate) async fn create_session(
        &self,
        caller: &Caller,
        address: String,
        request: CreateSession,
        trace: Option<TraceParent>,
    ) -> Result<CreatedSession, Problem> {
        let asker = self.asker(caller, address, request.player)?;
        if self.is_stopping() {
            return Err(Refused::Stopping.problem());
        }
        let channel = request.channel.as_deref().unwrap_or(STABLE);
        let package = self.catalogue.on_channel(request.app.as_str(), channel)?;
        let range = package.manifest.spec;
        let spec = request.spec.unwrap_or(range.default);
        range.check(spec).map_err(|error| ProblemKind::SpecOutOfRange.because(format!("The spec's {error}.")))?;
        if asker.most.is_some() {
            let taken = self.creations.take(&asker.address, Instant::now());
            taken.map_err(|wait| too_often("Sessions were created", wait))?;
        }
        let probes = self.accepted_probes(request.probes)?;
        let (token, hash) = new_session_token().map_err(no_randomness)?;
        let created_at = now();
        let tenant = self.owner_of(&package).await.map_err(broken)?;
        if matches!(caller, Caller::Tenant(own) if own.tenant != tenant) {
            return Err(ProblemKind::AppUnknown.because(format!("You offer no app called `{}`.", request.app)));
        }
        self.check_tenant(&tenant, asker.player_id.filter(|_| asker.most.is_some())).await?;
        if let (Some(player), Caller::Operator(_) | Caller::Tenant(_)) = (asker.player_id, caller)
            && self.store.player(player).await.map_err(broken)?.is_none()
        {
            return Err(ProblemKind::PlayerUnknown.because("No player has this id, or he was erased."));
        }
        let record = SessionRecord {
            id: SessionId::from_uuid(Uuid::now_v7()),
            instance: InstanceId::from_uuid(Uuid::now_v7()),
            epoch: 1,
            app: package.manifest.name.clone(),
            spec,
            resizable: request.resizable,
            address: asker.address,
            player_id: asker.player_id,
            node: None,
            release: package.release(),
            state: SessionState::Requested,
            observed: false,
            first_frame: false,
            unsaved: None,
            revision: 1,
            created_at,
            changed_at: created_at,
            ends_at: created_at.plus(self.settings.limits.session_length),
            token_hash: hash.bytes(),
            token_expires_at: created_at.plus(self.settings.limits.token_lifetime),
            tenant,
            explanation: None,
            asked_starts: 0,
            demand: Demand::default(),
            pool: None,
            probes,
        };
        let saves = &package.manifest.saves;
        let saves = (saves.are_kept() && record.player_id.is_some())
            .then_some(SaveRule { may_branch: saves.concurrent == ConcurrentSaves::Branch, chosen: request.save });
        self.observer.asked(&record, trace);
        if let Err(problem) = self.request(&record, asker.most, saves).await {
            self.observer.forget(record.id);
            return Err(problem);
        }
        let (session, app) = (record.id, &record.app);
        let trace = self.observer.trace(session).map(|of| of.trace.to_string());
        info!(%session, %app, instance = %record.instance, trace, "session created");
        let decided = self.decided(&record).await?;
        Ok(CreatedSession {
            session: decided,
            token,
            token_expires_at: record.token_expires_at,
            link: format!("/v1/sessions/{session}/link"),
            whep: format!("/v1/sessions/{session}/whep"),
        })
    }

    /// May sessions of a tenant's apps be started, and may this player of his own will have another one of them? Whom the tenant launches is its own
    /// to bound. Requests that come in the same moment may be one too many: this is the tenant's order among its players, not what it has bought.
    async fn check_tenant(&self, name: &str, player: Option<PlayerId>) -> Result<(), Problem> {
        if name == OPERATOR_TENANT {
            return Ok(());
        }
        let Some(tenant) = self.store.tenant(name).await.map_err(broken)? else { return Ok(()) };
        if tenant.state != TenantState::Active {
            let mut problem = ProblemKind::TenantSuspended.because("The game is not offered at the moment.");
            "Ask whoever offers it.".clone_into(&mut problem.remedy);
            return Err(problem);
        }
        let (Some(player), Some(most)) = (player, tenant.settings.limits.sessions_per_player) else { return Ok(()) };
        let live = self.store.live.all();
        let there = live.iter().filter(|row| row.player_id == Some(player) && row.tenant == name).count();
        if there < most as usize { Ok(()) } else { Err(Refused::Player { limit: most }.problem()) }
    }

    /// Notes that a session wants a place.
    async fn request(&self, record: &SessionRecord, most: Option<u32>, saves: Option<SaveRule>) -> Result<(), Problem> {
        let room = self.coordinator.open(record.id);
        let most = Most { of_player: most.unwrap_or(u32::MAX), waiting: self.settings.limits.queue_length };
        let admit = |usage| self.coordinator.fleet.read(|nodes| admit(nodes, usage, most));
        match self.store.request(record, saves, admit).await.map_err(broken)? {
            Claimed::Yes => {
                room.keep();
                Ok(())
            }
            Claimed::Refused(refused) => {
                info!(app = %record.app, reason = refused.sentence(), "session refused");
                Err(refused.problem())
            }
            Claimed::Save(refused) => Err(refused.problem()),
            Claimed::PlayerGone => Err(ProblemKind::TokenUnknown.because("The player was erased.")),
        }
    }

    /// Waits until it is decided where a session goes; a problem when it goes nowhere.
    async fn decided(&self, record: &SessionRecord) -> Result<Session, Problem> {
        let mut watch = self.coordinator.watch_session(record.id);
        self.coordinator.stir();
        let decided = tokio::time::timeout(DECISION_LIMIT, async {
            loop {
                match watch.borrow_and_update().clone() {
                    Some(session) if session.state != SessionState::Requested => return session,
                    Some(_) | None => {}
                }
                if watch.changed().await.is_err() {
                    return record.view();
                }
            }
        });
        let Ok(session) = decided.await else { return Ok(record.view()) };
        match session.state {
            SessionState::Ended { reason: EndReason::NoPlace, .. } => {
                let record = self.store.session(record.id).await.map_err(broken)?;
                let why = record.and_then(|record| record.explanation).unwrap_or_default();
                let why: Vec<String> = why.iter().map(|said| format!("{}: {}", said.site, said.detail)).collect();
                let sentence = EndReason::NoPlace.sentence();
                let detail =
                    if why.is_empty() { sentence.to_owned() } else { format!("{sentence} {}.", why.join("; ")) };
                Err(ProblemKind::NoCapacity.because(detail))
            }
            _ => Ok(session),
        }
    }

    /// Where a session is, or why it waits.
    pub(crate) fn placement(&self, record: &SessionRecord) -> Placement {
        let waits = matches!(record.state, SessionState::Queued { .. } | SessionState::Recovering { .. });
        Placement {
            node: record.node,
            epoch: record.epoch,
            queue: self.coordinator.queue(record.id).filter(|_| waits),
            sites: record.explanation.clone().unwrap_or_default(),
        }
    }

    /// The player takes the place that is offered to him.
    pub(crate) async fn accept_offer(&self, id: SessionId) -> Result<Session, Problem> {
        let length = self.settings.limits.session_length;
        let accepted = |row: &SessionRecord| reconcile::session::accepted(row, length, now());
        match self.store.change(id, accepted).await.map_err(broken)? {
            Changed::Yes(record) => {
                reconcile::announce(self, &record);
                self.coordinator.stir();
                Ok(record.view())
            }
            Changed::No(record) => Ok(record.view()),
            Changed::Missing => Err(ProblemKind::SessionUnknown.plain()),
        }
    }

    /// The newest sessions.
    pub(crate) async fn list_sessions(&self, caller: &Caller) -> Result<SessionList, Problem> {
        let tenant = match caller {
            Caller::Tenant(own) => {
                own.may(Right::SessionsRead)?;
                Some(own.tenant.as_str())
            }
            Caller::Nobody | Caller::Operator(_) | Caller::Session(_) | Caller::Player(_) => {
                operator(caller).map(|()| None)?
            }
        };
        let records = self.store.newest_sessions(tenant).await.map_err(broken)?;
        Ok(SessionList { sessions: records.iter().map(SessionRecord::view).collect() })
    }

    /// Ends the session of this id, for its player or the operator. Asking again changes nothing.
    pub(crate) async fn end_session_by(&self, caller: Caller, id: &str) -> Result<Session, Problem> {
        let by = caller.clone();
        let record = self.session_for(caller, id).await?;
        if !by.is_operator() {
            return self.end_session(&record, EndReason::PlayerLeft).await;
        }
        let ended = self.end_session(&record, EndReason::EndedByOperator).await?;
        let tenant = Some(record.tenant).filter(|tenant| tenant != OPERATOR_TENANT);
        self.record(&by, tenant, "session.end", record.id, Some(json!({"state": record.state.name()})), None).await;
        Ok(ended)
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
