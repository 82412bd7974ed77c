//! Who asks, and may he? The only place that compares tokens.

use std::collections::BTreeSet;
use std::time::Duration;

use api::access::{Actor, ActorKind, Bearer, Right, Role};
use api::clock::UtcTime;
use api::id::{KeyId, SessionId};
use api::problem::{Problem, ProblemKind};
use api::tenant::TenantState;

use super::releases::OPERATOR_TENANT;
use super::token::{TokenHash, is_of_key, is_of_player};
use super::{Plane, broken, now};
use crate::store::{KeyRecord, PlayerRecord, SessionRecord};

/// How exactly it is noted when a player was last here. Finer writes to the database with each of his requests; coarser
/// says less about who may be forgotten.
const SEEN_PRECISION: Duration = Duration::from_secs(3600);

/// How exactly it is noted when a key was last used. Finer writes with each request of a program, coarser leaves it open whether a key that is to go
/// is still needed.
const USED_PRECISION: Duration = Duration::from_secs(60);

/// Who bears a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyBearer {
    pub(crate) key: KeyId,
    /// What people call it.
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) rights: BTreeSet<Right>,
    /// Until when it is good.
    pub(crate) expires_at: Option<UtcTime>,
}

/// Who works for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantBearer {
    pub(crate) tenant: String,
    pub(crate) bearer: KeyBearer,
    pub(crate) is_suspended: bool,
}

impl TenantBearer {
    /// Has it this right, to look at what belongs to it?
    pub(crate) fn has(&self, right: Right) -> Result<(), Problem> {
        if self.bearer.rights.contains(&right) {
            return Ok(());
        }
        let (role, name) = (self.bearer.role, &self.bearer.name);
        let detail = format!("The key `{name}`, whose role is `{role}`, has not the right `{right}`.");
        let mut problem = ProblemKind::Forbidden.because(detail);
        "Use a key that has it: GET /v1/bearer says what one may do.".clone_into(&mut problem.remedy);
        Err(problem)
    }

    /// May it do this?
    pub(crate) fn may(&self, right: Right) -> Result<(), Problem> {
        self.has(right)?;
        if self.is_suspended && right.changes() {
            let detail = format!("The tenant `{}` is suspended: it sees everything and changes nothing.", self.tenant);
            return Err(ProblemKind::TenantSuspended.because(detail));
        }
        Ok(())
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// No token was sent.
    Nobody,
    /// The operator's token was, or a key of his.
    Operator(Option<KeyBearer>),
    /// A session's good token was: it is good for this session alone, whoever plays it.
    Session(Box<SessionRecord>),
    /// A key of a tenant was.
    Tenant(TenantBearer),
    /// A player's was.
    Player(PlayerRecord),
}

impl Caller {
    pub(crate) fn is_operator(&self) -> bool {
        matches!(self, Caller::Operator(_))
    }

    /// The key that he bears.
    pub(crate) fn key(&self) -> Option<&KeyBearer> {
        match self {
            Caller::Operator(bearer) => bearer.as_ref(),
            Caller::Tenant(tenant) => Some(&tenant.bearer),
            Caller::Nobody | Caller::Session(_) | Caller::Player(_) => None,
        }
    }

    /// As the record of changes names him. Of a session it is whoever plays it.
    pub(crate) fn actor(&self) -> Actor {
        let of_key = |bearer: &KeyBearer| Actor {
            kind: ActorKind::Key,
            id: Some(bearer.key.to_string()),
            name: Some(bearer.name.clone()),
        };
        let player = |id: Option<String>| Actor { kind: ActorKind::Player, id, name: None };
        match self {
            Caller::Operator(None) => Actor { kind: ActorKind::Operator, id: None, name: None },
            Caller::Operator(Some(bearer)) => of_key(bearer),
            Caller::Tenant(tenant) => of_key(&tenant.bearer),
            Caller::Player(record) => player(Some(record.id.to_string())),
            Caller::Session(record) => player(record.player_id.map(|id| id.to_string())),
            Caller::Nobody => player(None),
        }
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
            return Ok(Caller::Operator(None));
        }
        if is_of_player(token) {
            return self.player_caller(hash).await?.map(Caller::Player).ok_or_else(unknown);
        }
        if is_of_key(token) {
            return self.key_caller(hash).await?.ok_or_else(unknown);
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

    /// Who bears the key of this hash, which was used herewith.
    async fn key_caller(&self, hash: TokenHash) -> Result<Option<Caller>, Problem> {
        let found = self.store.key_by_hash(hash.bytes()).await.map_err(broken)?;
        let Some((record, state)) = found.filter(|(record, _)| TokenHash::from_bytes(record.hash) == hash) else {
            return Ok(None);
        };
        let now = now();
        if record.revoked_at.is_some() || state == Some(TenantState::Closed) {
            return Ok(None);
        }
        if let Some(at) = record.expires_at.filter(|at| *at <= now) {
            let mut problem = ProblemKind::TokenExpired.because(format!("The key was good until {at}."));
            "Make a new key.".clone_into(&mut problem.remedy);
            return Err(problem);
        }
        if record.last_used_at.is_none_or(|at| now.since(at) >= USED_PRECISION) {
            // Whoever asks is answered all the same.
            if let Err(error) = self.store.key_used(record.id, now).await {
                tracing::error!(error = &error as &dyn std::error::Error, "that a key was used could not be noted");
            }
        }
        let bearer = bearer(&record);
        Ok(Some(match record.tenant {
            None => Caller::Operator(Some(bearer)),
            Some(tenant) => {
                Caller::Tenant(TenantBearer { tenant, bearer, is_suspended: state == Some(TenantState::Suspended) })
            }
        }))
    }

    /// The tenant for which a caller does this.
    pub(crate) fn tenant_with(&self, caller: &Caller, right: Right) -> Result<String, Problem> {
        match caller {
            Caller::Operator(_) => Ok(OPERATOR_TENANT.to_owned()),
            Caller::Tenant(tenant) => tenant.may(right).map(|()| tenant.tenant.clone()),
            Caller::Nobody => Err(missing("This is for tenants and the operator.")),
            Caller::Session(_) | Caller::Player(_) => {
                Err(ProblemKind::Forbidden.because("This is for tenants and the operator, not for players."))
            }
        }
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
            Caller::Tenant(_) => Err(ProblemKind::Forbidden.because("A tenant's key is not good for this.")),
            Caller::Session(record) => own(*record, id),
            Caller::Operator(_) => {
                let unknown = || ProblemKind::SessionUnknown.because("No session has this id, or it was forgotten.");
                let id: SessionId = id.parse().map_err(|_no_id| unknown())?;
                self.store.session(id).await.map_err(broken)?.ok_or_else(unknown)
            }
        }
    }
}

/// What a key's bearer is and may.
pub(super) fn bearer(record: &KeyRecord) -> KeyBearer {
    let of_role = record.role.rights();
    let rights = record.rights.as_ref().map_or(of_role.clone(), |rights| &of_role & rights);
    KeyBearer { key: record.id, name: record.name.clone(), role: record.role, rights, expires_at: record.expires_at }
}

/// Who somebody is: for what any key, and the operator's token, is good.
pub(crate) fn who(caller: &Caller) -> Result<Bearer, Problem> {
    let of = |bearer: &KeyBearer, tenant: Option<&String>| Bearer {
        role: bearer.role,
        tenant: tenant.cloned(),
        key: Some(bearer.key),
        rights: bearer.rights.clone(),
    };
    match caller {
        Caller::Operator(None) => {
            Ok(Bearer { role: Role::Operator, tenant: None, key: None, rights: Role::Operator.rights() })
        }
        Caller::Operator(Some(bearer)) => Ok(of(bearer, None)),
        Caller::Tenant(tenant) => Ok(of(&tenant.bearer, Some(&tenant.tenant))),
        Caller::Nobody => Err(missing("This says who the bearer of a key is.")),
        Caller::Session(_) | Caller::Player(_) => {
            Err(ProblemKind::Forbidden.because("This is for keys, not for the tokens of players."))
        }
    }
}

/// What a player's token does not open: it is kept in a browser for a year, and a page that plays needs the session's alone.
const NOT_BY_PLAYER: &str = "This takes the session's own token; a player's token is not good for it.";

/// The caller's session, when it is the one of this id: for what only who plays it may do.
pub(crate) fn own_session(caller: Caller, id: &str) -> Result<SessionRecord, Problem> {
    match caller {
        Caller::Nobody => Err(missing("This is for the session's player alone.")),
        Caller::Operator(_) => {
            Err(ProblemKind::Forbidden.because("Only the session's player may do this, not the operator."))
        }
        Caller::Player(_) => Err(ProblemKind::Forbidden.because(NOT_BY_PLAYER)),
        Caller::Tenant(_) => Err(ProblemKind::Forbidden.because("A tenant's key is not good for this.")),
        Caller::Session(record) => own(*record, id),
    }
}

/// The player who asks: for what is his alone.
pub(crate) fn own_player(caller: &Caller) -> Result<PlayerRecord, Problem> {
    match caller {
        Caller::Nobody => Err(missing("This is for a player, with the token that creating him returned.")),
        Caller::Operator(_) | Caller::Session(_) | Caller::Tenant(_) => {
            Err(ProblemKind::Forbidden.because("This takes a player's token, and another one was sent."))
        }
        Caller::Player(record) => Ok(*record),
    }
}

/// For what only the operator may do.
pub(crate) fn operator(caller: &Caller) -> Result<(), Problem> {
    match caller {
        Caller::Nobody => Err(operator_needed(ProblemKind::TokenMissing)),
        Caller::Operator(_) => Ok(()),
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
