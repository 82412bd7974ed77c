//! Who asks, and may he? The only place that compares tokens.

use std::time::Duration;

use api::id::SessionId;
use api::problem::{Problem, ProblemKind};

use super::token::{TokenHash, is_of_player, is_of_tenant};
use super::{Plane, broken, now};
use crate::store::{PlayerRecord, SessionRecord};

/// How exactly it is noted when a player was last here. Finer writes to the database with each of his requests; coarser
/// says less about who may be forgotten.
const SEEN_PRECISION: Duration = Duration::from_secs(3600);

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// No token was sent.
    Nobody,
    /// The operator's token was.
    Operator,
    /// A session's good token was: it is good for this session alone, whoever plays it.
    Session(Box<SessionRecord>),
    /// A tenant's was: of this name.
    Tenant(String),
    /// A player's was.
    Player(PlayerRecord),
}

impl Caller {
    pub(crate) fn is_operator(&self) -> bool {
        matches!(self, Caller::Operator)
    }
}

impl Plane {
    /// Who sends this token?
    pub(crate) async fn caller(&self, token: Option<&str>) -> Result<Caller, Problem> {
        let Some(token) = token else { return Ok(Caller::Nobody) };
        let unknown =
            || ProblemKind::TokenUnknown.because("Nothing here issued this token, or it was forgotten since.");
        let hash = TokenHash::of(token).ok_or_else(unknown)?;
        if hash == self.operator {
            return Ok(Caller::Operator);
        }
        if is_of_player(token) {
            return self.player_caller(hash).await?.map(Caller::Player).ok_or_else(unknown);
        }
        if is_of_tenant(token) {
            let found = self.store.tenant_by_token(hash.bytes()).await.map_err(broken)?;
            return found.map(Caller::Tenant).ok_or_else(unknown);
        }
        let record = self.store.session_by_token(hash.bytes()).await.map_err(broken)?.ok_or_else(unknown)?;
        if TokenHash::from_bytes(record.token_hash) != hash {
            return Err(unknown());
        }
        if record.token_expires_at <= now() {
            let at = record.token_expires_at;
            return Err(ProblemKind::TokenExpired.because(format!("The token was good until {at}.")));
        }
        Ok(Caller::Session(Box::new(record)))
    }

    /// The player whose token has this hash, who was seen herewith.
    async fn player_caller(&self, hash: TokenHash) -> Result<Option<PlayerRecord>, Problem> {
        let record = self.store.player_by_token(hash.bytes()).await.map_err(broken)?;
        let Some(mut record) = record.filter(|record| TokenHash::from_bytes(record.token_hash) == hash) else {
            return Ok(None);
        };
        let now = now();
        if now.since(record.last_seen_at) >= SEEN_PRECISION {
            self.store.player_seen(record.id, now).await.map_err(broken)?;
            record.last_seen_at = now;
        }
        Ok(Some(record))
    }

    /// The session of this id, when the caller is its player or the operator.
    pub(crate) async fn session_for(&self, caller: Caller, id: &str) -> Result<SessionRecord, Problem> {
        match caller {
            Caller::Nobody => Err(missing("This is for the session's player and the operator.")),
            Caller::Player(_) => Err(ProblemKind::Forbidden.because(NOT_BY_PLAYER)),
            Caller::Tenant(_) => Err(ProblemKind::Forbidden.because("A tenant's token is not good for sessions.")),
            Caller::Session(record) => own(*record, id),
            Caller::Operator => {
                let unknown = || ProblemKind::SessionUnknown.because("No session has this id, or it was forgotten.");
                let id: SessionId = id.parse().map_err(|_no_id| unknown())?;
                self.store.session(id).await.map_err(broken)?.ok_or_else(unknown)
            }
        }
    }
}

/// What a player's token does not open: it is kept in a browser for a year, and a page that plays needs the session's alone.
const NOT_BY_PLAYER: &str = "This takes the session's own token; a player's token is not good for it.";

/// The caller's session, when it is the one of this id: for what only who plays it may do.
pub(crate) fn own_session(caller: Caller, id: &str) -> Result<SessionRecord, Problem> {
    match caller {
        Caller::Nobody => Err(missing("This is for the session's player alone.")),
        Caller::Operator => {
            Err(ProblemKind::Forbidden.because("Only the session's player may do this, not the operator."))
        }
        Caller::Player(_) => Err(ProblemKind::Forbidden.because(NOT_BY_PLAYER)),
        Caller::Tenant(_) => Err(ProblemKind::Forbidden.because("A tenant's token is not good for sessions.")),
        Caller::Session(record) => own(*record, id),
    }
}

/// The player who asks: for what is his alone.
pub(crate) fn own_player(caller: &Caller) -> Result<PlayerRecord, Problem> {
    match caller {
        Caller::Nobody => Err(missing("This is for a player, with the token that creating him returned.")),
        Caller::Operator | Caller::Session(_) | Caller::Tenant(_) => {
            Err(ProblemKind::Forbidden.because("This takes a player's token, and another one was sent."))
        }
        Caller::Player(record) => Ok(*record),
    }
}

/// For what only the operator may do.
pub(crate) fn operator(caller: &Caller) -> Result<(), Problem> {
    match caller {
        Caller::Nobody => Err(operator_needed(ProblemKind::TokenMissing)),
        Caller::Operator => Ok(()),
        Caller::Session(_) | Caller::Player(_) | Caller::Tenant(_) => Err(operator_needed(ProblemKind::Forbidden)),
    }
}

fn operator_needed(kind: ProblemKind) -> Problem {
    let mut problem = kind.because("This is for the operator alone.");
    "Use the operator's token: the file `operator-token` in the data directory.".clone_into(&mut problem.remedy);
    problem
}

fn missing(detail: &str) -> Problem {
    ProblemKind::TokenMissing.because(detail)
}

/// A token of another session says nothing about whether the asked one exists.
fn own(record: SessionRecord, id: &str) -> Result<SessionRecord, Problem> {
    if id.parse() == Ok(record.id) {
        Ok(record)
    } else {
        Err(ProblemKind::Forbidden.because("The token belongs to another session."))
    }
}
