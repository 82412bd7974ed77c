//! The record of changes: who may read it, and how an entry is made.

use api::access::{AuditList, AuditPage, DEFAULT_AUDIT_ENTRIES, MAX_AUDIT_ENTRIES, Right};
use api::id::AuditId;
use api::problem::{Problem, ProblemKind};
use serde_json::Value;
use tracing::error;
use uuid::Uuid;

use super::access::Caller;
use super::{Plane, broken, now};
use crate::store::{AuditOf, AuditRecord};

impl Plane {
    /// A change that is about to be made by somebody. Secrets have no place in what was before and what is after.
    pub(crate) fn change(
        &self,
        caller: &Caller,
        tenant: Option<String>,
        action: &'static str,
        target: impl ToString,
        before: Option<Value>,
        after: Option<Value>,
    ) -> AuditRecord {
        let id = AuditId::from_uuid(Uuid::now_v7());
        AuditRecord { id, at: now(), actor: caller.actor(), tenant, action, target: target.to_string(), before, after }
    }

    /// Notes a change that was made a moment ago, of what is one statement or more than one transaction. When this fails the change stays, and the
    /// log has what is missing.
    pub(super) async fn record(
        &self,
        caller: &Caller,
        tenant: Option<String>,
        action: &'static str,
        target: impl ToString,
        before: Option<Value>,
        after: Option<Value>,
    ) {
        let change = self.change(caller, tenant, action, target, before, after);
        if let Err(error) = self.store.audit(&change).await {
            error!(error = &error as &dyn std::error::Error, ?change, "a change could not be noted");
        }
    }

    /// Changes, the newest first: all for the operator, a tenant's own for whoever may read them there.
    pub(crate) async fn list_audit(&self, caller: &Caller, page: AuditPage) -> Result<AuditList, Problem> {
        let tenant = match caller {
            Caller::Operator(_) => page.tenant,
            Caller::Tenant(own) => {
                own.may(Right::AuditRead)?;
                if page.tenant.is_some_and(|other| other != own.tenant) {
                    return Err(ProblemKind::TenantUnknown.because("You are of no tenant of this name."));
                }
                Some(own.tenant.clone())
            }
            Caller::Nobody => {
                return Err(ProblemKind::TokenMissing.because("The record of changes is for the operator and tenants."));
            }
            Caller::Session(_) | Caller::Player(_) => {
                return Err(ProblemKind::Forbidden.because("The record of changes is not for players."));
            }
        };
        let limit = page.limit.unwrap_or(DEFAULT_AUDIT_ENTRIES);
        if !(1..=MAX_AUDIT_ENTRIES).contains(&limit) {
            return Err(ProblemKind::InvalidRequest.because(format!("`limit` has to be 1 to {MAX_AUDIT_ENTRIES}.")));
        }
        let of = AuditOf { tenant: tenant.as_deref(), before: page.before };
        Ok(AuditList { entries: self.store.audited(of, limit).await.map_err(broken)? })
    }
}
