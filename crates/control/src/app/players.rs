//! Players: create, erase, and what they played.
//!
//! Deliberately absent: names, passwords, whatever else would say who somebody is. A token is all that a player has.

use std::time::Instant;

use api::id::PlayerId;
use api::problem::{Problem, ProblemKind};
use api::rest::{CreatedPlayer, DEFAULT_PLAYS, MAX_PLAYS, Play, PlayList, PlaysPage, Session};
use api::session::{EndReason, SessionState};
use tracing::info;
use uuid::Uuid;

use super::access::{Caller, operator};
use super::catalogue::Catalogue;
use super::sessions::too_often;
use super::token::new_player_token;
use super::{Plane, broken, no_randomness, now};
use crate::store::{Erased, PlayerRecord, SessionRecord};

impl Plane {
    /// Creates a player.
    pub(crate) async fn create_player(&self, caller: &Caller, address: &str) -> Result<CreatedPlayer, Problem> {
        let guest = match caller {
            Caller::Operator(_) => false,
            Caller::Nobody if self.settings.guests => {
                let taken = self.player_creations.take(address, Instant::now());
                taken.map_err(|wait| too_often("Players were created", wait))?;
                true
            }
            Caller::Nobody | Caller::Session(_) | Caller::Player(_) | Caller::Tenant(_) => {
                operator(caller).map(|()| false)?
            }
        };
        let (token, hash) = new_player_token().map_err(no_randomness)?;
        let created_at = now();
        let record = PlayerRecord {
            id: PlayerId::from_uuid(Uuid::now_v7()),
            token_hash: hash.bytes(),
            guest,
            created_at,
            last_seen_at: created_at,
        };
        self.store.add_player(&record).await.map_err(broken)?;
        info!(player = %record.id, guest, "player created");
        Ok(CreatedPlayer { player: record.view(), token })
    }

    /// The player of this id, for the operator.
    pub(crate) async fn player_for_operator(&self, caller: &Caller, id: &str) -> Result<PlayerRecord, Problem> {
        operator(caller)?;
        let id: PlayerId = id.parse().map_err(|_no_id| unknown())?;
        self.store.player(id).await.map_err(broken)?.ok_or_else(unknown)
    }

    /// Erases a player and that his plays were his.
    pub(crate) async fn erase_player(&self, id: PlayerId) -> Result<(), Problem> {
        match self.store.erase_player(id).await.map_err(broken)? {
            Erased::Yes => {
                info!(player = %id, "player erased");
                Ok(())
            }
            Erased::Busy => Err(ProblemKind::PlayerBusy.because("A session of this player has not ended yet.")),
            Erased::Missing => Err(unknown()),
        }
    }

    /// The same of the player of this id, for the operator.
    pub(crate) async fn erase_player_for_operator(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        let player = self.player_for_operator(caller, id).await?.id;
        self.erase_player(player).await?;
        self.record(caller, None, "player.erase", player, None, None).await;
        Ok(())
    }

    /// Ends a session of a player's, wherever it is played. Asking again changes nothing.
    pub(crate) async fn end_session_of(&self, player: PlayerId, id: &str) -> Result<Session, Problem> {
        let unknown = || ProblemKind::SessionUnknown.because("You have no session of this id.");
        let id = id.parse().map_err(|_no_id| unknown())?;
        let record = self.store.session(id).await.map_err(broken)?;
        let record = record.filter(|record| record.player_id == Some(player)).ok_or_else(unknown)?;
        self.end_session(&record, EndReason::PlayerLeft).await
    }

    /// A page of what a player played.
    pub(crate) async fn plays(&self, player: PlayerId, page: PlaysPage) -> Result<PlayList, Problem> {
        let limit = page.limit.unwrap_or(DEFAULT_PLAYS);
        if !(1..=MAX_PLAYS).contains(&limit) {
            return Err(
                ProblemKind::InvalidRequest.because(format!("limit is {limit}, but 1 to {MAX_PLAYS} is allowed."))
            );
        }
        let records = self.store.sessions_of(player, page.before, limit).await.map_err(broken)?;
        Ok(PlayList { plays: records.iter().map(|record| play(record, &self.catalogue)).collect() })
    }
}

fn unknown() -> Problem {
    ProblemKind::PlayerUnknown.because("No player has this id, or he was erased.")
}

fn play(record: &SessionRecord, catalogue: &Catalogue) -> Play {
    let end = match record.state {
        SessionState::Ended { reason, party, at } => Some((at, reason, party)),
        SessionState::Requested
        | SessionState::Queued { .. }
        | SessionState::Offered { .. }
        | SessionState::Recovering { .. }
        | SessionState::Reserved
        | SessionState::Preparing { .. }
        | SessionState::Ready { .. }
        | SessionState::Connected { .. }
        | SessionState::Reconnecting { .. }
        | SessionState::Stopping { .. } => None,
    };
    Play {
        session: record.id,
        app: record.app.clone(),
        title: catalogue.package(record.app.as_str()).ok().map(|package| package.manifest.title.clone()),
        release: record.release.map(|release| release.to_string()),
        node: record.node,
        started_at: record.created_at,
        ended_at: end.map(|(at, _, _)| at),
        reason: end.map(|(_, reason, _)| reason),
        party: end.map(|(_, _, party)| party),
        sentence: record.sentence(),
    }
}
