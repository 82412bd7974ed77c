//! What was played and for how long, for the operator and for tenants.

use api::access::Right;
use api::problem::{Problem, ProblemKind};
use api::usage::{
    DEFAULT_USAGE_SESSIONS, MAX_USAGE_SESSIONS, SessionUsage, UsageEnding, UsageInterval, UsageList, UsagePage,
};
use billing::usage::{Ending, Interval};

use super::access::{Caller, operator};
use super::{Plane, broken};
use crate::store::{Played, UsageOf};

impl Plane {
    /// Sessions that were played, the newest first.
    pub(crate) async fn list_usage(&self, caller: &Caller, page: UsagePage) -> Result<UsageList, Problem> {
        let tenant = match caller {
            Caller::Tenant(own) => {
                own.may(Right::MoneyRead)?;
                if page.tenant.is_some_and(|other| other != own.tenant) {
                    return Err(ProblemKind::TenantUnknown.because("You are of no tenant of this name."));
                }
                Some(own.tenant.clone())
            }
            Caller::Nobody | Caller::Operator(_) | Caller::Session(_) | Caller::Player(_) => {
                operator(caller)?;
                page.tenant
            }
        };
        let limit = page.limit.unwrap_or(DEFAULT_USAGE_SESSIONS);
        if !(1..=MAX_USAGE_SESSIONS).contains(&limit) {
            return Err(ProblemKind::InvalidRequest.because(format!("`limit` has to be 1 to {MAX_USAGE_SESSIONS}.")));
        }
        let of = UsageOf { tenant: tenant.as_deref(), session: page.session, before: page.before };
        let played = self.store.played(of, limit).await.map_err(broken)?;
        Ok(UsageList { sessions: played.into_iter().map(view).collect() })
    }
}

fn view(played: Played) -> SessionUsage {
    let sum = |is_fault: bool| {
        let ms = played.intervals.iter().filter(|one| one.is_fault() == is_fault).map(Interval::ms);
        u64::try_from(ms.sum::<i64>()).unwrap_or(0)
    };
    let (billed_ms, fault_ms) = (sum(false), sum(true));
    SessionUsage {
        session: played.session,
        tenant: played.tenant,
        app: played.app,
        release: played.release,
        player: played.player,
        spec: played.spec,
        begun: played.life.begun,
        ended: played.life.ended,
        intervals: played.intervals.iter().map(interval).collect(),
        billed_ms,
        fault_ms,
    }
}

fn interval(interval: &Interval) -> UsageInterval {
    UsageInterval {
        id: interval.id.to_string(),
        epoch: interval.epoch,
        from: interval.from,
        to: interval.to,
        ms: u64::try_from(interval.ms()).unwrap_or(0),
        is_fault: interval.is_fault(),
        ending: match interval.ending {
            Ending::Open => UsageEnding::Open,
            Ending::Closed { closing } => UsageEnding::Closed { because: closing.word().to_owned() },
            Ending::LastProven => UsageEnding::LastProven,
        },
    }
}
