//! Keys: make, list, revoke.

use std::time::Duration;

use api::access::{CreateKey, CreatedKey, Key, KeyList, MAX_KEY_LIFE_S, MAX_KEY_NAME, Right, Role};
use api::id::KeyId;
use api::problem::{Problem, ProblemKind};
use serde_json::json;
use tracing::info;
use uuid::Uuid;

use super::access::{Caller, bearer};
use super::token::new_key_secret;
use super::{Plane, broken, no_randomness, now};
use crate::store::{KeyAdded, KeyRecord};

/// Of the secret so many characters are shown later: enough to tell keys apart, and nothing to guess the others from.
const SHOWN: usize = 4;

fn unknown() -> Problem {
    ProblemKind::KeyUnknown.because("No key of yours has this id.")
}

fn view(record: &KeyRecord) -> Key {
    Key {
        id: record.id,
        name: record.name.clone(),
        tenant: record.tenant.clone(),
        role: record.role,
        rights: bearer(record).rights,
        ends_with: record.ends_with.clone(),
        created_at: record.created_at,
        expires_at: record.expires_at,
        last_used_at: record.last_used_at,
        revoked_at: record.revoked_at,
    }
}

/// A new key with its secret. It is nowhere yet.
pub(super) fn new_key(request: CreateKey) -> Result<(KeyRecord, String), Problem> {
    let name = super::text("name", request.name, MAX_KEY_NAME)?;
    if request.role.is_of_tenant() != request.tenant.is_some() {
        let detail = match request.role {
            Role::Operator => "The role `operator` is none that a tenant's key can have.".to_owned(),
            role => format!("The role `{role}` is one of a tenant: name it in `tenant`."),
        };
        return Err(ProblemKind::InvalidRequest.because(detail));
    }
    if request.role == Role::Operator && request.rights.is_some() {
        let detail = "A key whose role is `operator` does everything: it cannot have fewer rights.";
        return Err(ProblemKind::InvalidRequest.because(detail));
    }
    let of_role = request.role.rights();
    if let Some(more) = request.rights.iter().flatten().find(|right| !of_role.contains(right)) {
        let detail = format!("The role `{}` has not the right `{more}`.", request.role);
        return Err(ProblemKind::InvalidRequest.because(detail));
    }
    if request.expires_in_s.is_some_and(|seconds| !(1..=MAX_KEY_LIFE_S).contains(&seconds)) {
        return Err(ProblemKind::InvalidRequest.because(format!("`expires_in_s` is 1 to {MAX_KEY_LIFE_S}.")));
    }
    let (secret, hash) = new_key_secret(request.tenant.is_some()).map_err(no_randomness)?;
    let created_at = now();
    let life = request.expires_in_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let record = KeyRecord {
        id: KeyId::from_uuid(Uuid::now_v7()),
        tenant: request.tenant,
        name,
        role: request.role,
        rights: request.rights,
        hash: hash.bytes(),
        ends_with: secret[secret.len() - SHOWN..].to_owned(),
        created_at,
        expires_at: life.map(|life| created_at.plus(life)),
        last_used_at: None,
        revoked_at: None,
    };
    Ok((record, secret))
}

impl Plane {
    /// Whose keys somebody may see and revoke, also of a tenant that is suspended: `None` for everybody's.
    fn key_holder(caller: &Caller) -> Result<Option<&str>, Problem> {
        match caller {
            Caller::Operator(_) => Ok(None),
            Caller::Tenant(tenant) => tenant.has(Right::Keys).map(|()| Some(tenant.tenant.as_str())),
            Caller::Nobody => Err(ProblemKind::TokenMissing.because("Keys are for the operator and for tenants.")),
            Caller::Session(_) | Caller::Player(_) => {
                Err(ProblemKind::Forbidden.because("Keys are for the operator and for tenants, not for players."))
            }
        }
    }

    /// Makes a key.
    pub(crate) async fn create_key(&self, caller: &Caller, request: CreateKey) -> Result<CreatedKey, Problem> {
        let own = Self::key_holder(caller)?;
        if let Caller::Tenant(tenant) = caller {
            tenant.may(Right::Keys)?;
        }
        let request = match (own, &request.tenant) {
            (Some(own), Some(other)) if own != other => {
                return Err(ProblemKind::TenantUnknown.because("You are of no tenant of this name."));
            }
            (Some(own), _) => CreateKey { tenant: Some(own.to_owned()), ..request },
            (None, _) => request,
        };
        self.check_gives_no_more(caller, &request)?;
        let (mut record, secret) = new_key(request)?;
        let maker = caller.key();
        // Nor is it good for longer.
        let ends = [record.expires_at, maker.and_then(|maker| maker.expires_at)];
        record.expires_at = ends.into_iter().flatten().min();
        let key = view(&record);
        let after = Some(json!(key));
        let audit = self.change(caller, record.tenant.clone(), "key.create", record.id, None, after);
        match self.store.add_key(&record, maker.map(|maker| maker.key), &audit).await.map_err(broken)? {
            KeyAdded::Yes => {}
            KeyAdded::TooMany { most } => {
                return Err(ProblemKind::TooManyKeys.because(format!("{most} keys are good, which is the limit.")));
            }
            KeyAdded::NoMaker => {
                return Err(ProblemKind::TokenUnknown.because("Your own key was revoked, or your tenant suspended."));
            }
            KeyAdded::NoTenant => {
                return Err(ProblemKind::TenantUnknown.because("No tenant has this name, or it is closed."));
            }
        }
        info!(key = %record.id, tenant = record.tenant, role = %record.role, "key made");
        Ok(CreatedKey { key, secret })
    }

    /// Nobody makes a key that may do what he himself may not.
    fn check_gives_no_more(&self, caller: &Caller, request: &CreateKey) -> Result<(), Problem> {
        let Caller::Tenant(own) = caller else { return Ok(()) };
        let given = request.rights.clone().unwrap_or_else(|| request.role.rights());
        match given.iter().find(|right| !own.bearer.rights.contains(right)) {
            None => Ok(()),
            Some(more) => {
                let detail = format!("Your key has not the right `{more}`, and so gives it to no other one.");
                Err(ProblemKind::Forbidden.because(detail))
            }
        }
    }

    /// Keys, the newest first.
    pub(crate) async fn list_keys(&self, caller: &Caller) -> Result<KeyList, Problem> {
        let own = Self::key_holder(caller)?;
        let keys = self.store.keys(own, now()).await.map_err(broken)?;
        Ok(KeyList { keys: keys.iter().map(view).collect() })
    }

    /// Makes a key no key any more. Asking again changes nothing.
    pub(crate) async fn revoke_key(&self, caller: &Caller, id: &str) -> Result<Key, Problem> {
        let own = Self::key_holder(caller)?;
        let id: KeyId = id.parse().map_err(|_no_id| unknown())?;
        let found = self.store.key(id).await.map_err(broken)?;
        let is_own = |record: &KeyRecord| own.is_none_or(|own| record.tenant.as_deref() == Some(own));
        let record = found.filter(is_own).ok_or_else(unknown)?;
        if let Caller::Tenant(bearer) = caller
            && bearer.bearer.key != id
            && !view(&record).rights.is_subset(&bearer.bearer.rights)
        {
            let detail =
                "That key may do more than yours: it is revoked by one that may do as much, or by the operator.";
            return Err(ProblemKind::Forbidden.because(detail));
        }
        let at = now();
        let revoked = KeyRecord { revoked_at: record.revoked_at.or(Some(at)), ..record.clone() };
        let (before, after) = (Some(json!(view(&record))), Some(json!(view(&revoked))));
        let audit = self.change(caller, record.tenant, "key.revoke", id, before, after);
        if self.store.revoke_key(id, at, &audit).await.map_err(broken)? {
            info!(key = %id, "key revoked");
        }
        Ok(view(&revoked))
    }
}
