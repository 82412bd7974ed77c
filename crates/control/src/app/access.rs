//! Who asks, and may he? The only place that compares tokens.

use api::id::SessionId;
use api::problem::{Problem, ProblemKind};

use super::token::TokenHash;
use super::{Plane, broken, now};
use crate::store::SessionRecord;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// No token was sent.
    Nobody,
    /// The operator's token was.
    Operator,
    /// A session's good token was.
    Player(Box<SessionRecord>),
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
        let record = self.store.session_by_token(hash.bytes()).await.map_err(broken)?.ok_or_else(unknown)?;
        if TokenHash::from_bytes(record.token_hash) != hash {
            return Err(unknown());
        }
        if record.token_expires_at <= now() {
            let at = record.token_expires_at;
            return Err(ProblemKind::TokenExpired.because(format!("The token was good until {at}.")));
        }
        Ok(Caller::Player(Box::new(record)))
    }

    /// The session of this id, when the caller is its player or the operator.
    pub(crate) async fn session_for(&self, caller: Caller, id: &str) -> Result<SessionRecord, Problem> {
        match caller {
            Caller::Nobody => Err(missing("This is for the session's player and the operator.")),
            Caller::Player(record) => own(*record, id),
            Caller::Operator => {
                let unknown = || ProblemKind::SessionUnknown.because("No session has this id, or it was forgotten.");
                let id: SessionId = id.parse().map_err(|_no_id| unknown())?;
                self.store.session(id).await.map_err(broken)?.ok_or_else(unknown)
            }
        }
    }
}

/// The caller's session, when it is the one of this id: for what only the player may do.
pub(crate) fn session_of_player(caller: Caller, id: &str) -> Result<SessionRecord, Problem> {
    match caller {
        Caller::Nobody => Err(missing("This is for the session's player alone.")),
        Caller::Operator => {
            Err(ProblemKind::Forbidden.because("Only the session's player may do this, not the operator."))
        }
        Caller::Player(record) => own(*record, id),
    }
}

/// For what only the operator may do.
pub(crate) fn operator(caller: &Caller) -> Result<(), Problem> {
    match caller {
        Caller::Nobody => Err(operator_needed(ProblemKind::TokenMissing)),
        Caller::Operator => Ok(()),
        Caller::Player(_) => Err(operator_needed(ProblemKind::Forbidden)),
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
