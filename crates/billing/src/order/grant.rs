//! What active orders grant: all that a scheduler and an admission check ever see of commerce.

use api::clock::UtcTime;
use api::id::PlayerId;
use serde::{Deserialize, Serialize};

use super::{Order, OrderState};
use crate::id::{OrderId, PlanName, ProductName, TenantName};
use crate::plan::{Beyond, Concurrency, Limits, Usage};

/// What playing costs, as far as admission has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlayRule {
    /// Nothing more: no hold is needed.
    Included,
    /// Its time, afterwards: no hold is needed.
    Metered,
    /// Prepaid hours: a hold is needed, and play ends with them.
    Prepaid,
    /// Prepaid hours, then its time: play does not end with them.
    PrepaidThenMetered,
}

/// What one order grants at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntitlementGrant {
    /// Which order.
    pub order: OrderId,
    /// To whom.
    pub tenant: TenantName,
    /// To which of its players; `None` = all.
    #[serde(default)]
    pub player: Option<PlayerId>,
    /// By which plan.
    pub plan: PlanName,
    /// Of what.
    pub product: ProductName,
    /// From when.
    pub from: UtcTime,
    /// Until when; `None` = nobody knows yet.
    #[serde(default)]
    pub to: Option<UtcTime>,
    /// Places at once, of all units.
    pub concurrency: Concurrency,
    /// What playing costs.
    pub play: PlayRule,
    /// Limits of each player, or of the one whose it is.
    pub limits: Limits,
    /// Within the tenant: higher first.
    pub priority: u8,
    /// Among tenants.
    pub weight: u32,
    /// True of sessions that may be ended when others have nowhere to play.
    pub is_trial: bool,
}

/// What a player has used of a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayerUse {
    /// Sessions that he has now.
    pub sessions: u32,
    /// Milliseconds that he played in this period.
    pub period_ms: i64,
    /// Plays that he began in this period.
    pub plays: u32,
    /// Prepaid milliseconds that he has left.
    pub prepaid_ms: i64,
}

/// A session that may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Its longest time in milliseconds; `None` = without a limit.
    pub longest_ms: Option<i64>,
    /// Who goes first within the tenant.
    pub priority: u8,
    /// May it be ended for others?
    pub is_trial: bool,
    /// Is a hold on prepaid hours needed?
    pub needs_hold: bool,
}

/// Why no session may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Before it begins, or after its end. Renew the order, or buy one.
    #[error("the order does not grant anything at this time: renew it, or buy one")]
    NotNow,
    /// It brings hours or a title, and no place. Buy a plan that has one.
    #[error("the order grants no place to play: buy a plan that does")]
    NoPlace,
    /// He plays as often at once as he may. End a session.
    #[error("{0} sessions at once are granted, and all of them are played: end one")]
    Sessions(u32),
    /// The period's time is used up. Wait for the next one.
    #[error("the {0} hours of this period are played: wait for the next one, or buy more")]
    PeriodTime(u64),
    /// The period's plays are used up. Wait for the next one.
    #[error("the {0} plays of this period are played: wait for the next one, or buy more")]
    Plays(u32),
    /// Prepaid hours are used up. Buy more.
    #[error("all prepaid time is played: buy more")]
    PrepaidTime,
}

impl Order {
    /// What it grants at a moment; `None` when that is nothing.
    #[must_use]
    pub fn grant(&self, now: UtcTime) -> Option<EntitlementGrant> {
        if !matches!(self.state, OrderState::Active { .. }) || self.ends.is_some_and(|ends| now >= ends) {
            return None;
        }
        let after = self.phases.partition_point(|phase| phase.from <= now);
        let phase = self.phases.get(after.checked_sub(1)?)?;
        let terms = phase.terms();
        let times = |places: u32| places.saturating_mul(phase.units);
        let places = terms.concurrency;
        let play = match &terms.usage {
            Usage::Included => PlayRule::Included,
            Usage::Metered { .. } => PlayRule::Metered,
            Usage::Prepaid { allowance } => match allowance.beyond {
                Beyond::End => PlayRule::Prepaid,
                Beyond::Metered { .. } => PlayRule::PrepaidThenMetered,
            },
        };
        Some(EntitlementGrant {
            order: self.id,
            tenant: self.tenant.clone(),
            player: self.player,
            plan: phase.plan.clone(),
            product: self.selection.product.clone(),
            from: phase.from,
            to: self.phases.get(after).map(|next| next.from).or(self.ends),
            concurrency: Concurrency {
                guarantee: times(places.guarantee),
                borrow: times(places.borrow),
                maximum: times(places.maximum),
            },
            play,
            limits: terms.limits,
            priority: terms.queue.priority,
            weight: terms.queue.weight,
            is_trial: terms.is_trial,
        })
    }
}

impl EntitlementGrant {
    /// May a session begin for a player who has used so much?
    ///
    /// # Errors
    /// The first reason why not, with what to do.
    pub fn admit(&self, now: UtcTime, used: PlayerUse) -> Result<Admission, Denied> {
        if now < self.from || self.to.is_some_and(|to| now >= to) {
            return Err(Denied::NotNow);
        }
        let places = self.concurrency.guarantee.saturating_add(self.concurrency.borrow).min(self.concurrency.maximum);
        if places == 0 {
            return Err(Denied::NoPlace);
        }
        if used.sessions >= places {
            return Err(Denied::Sessions(places));
        }
        if let Some(plays) = self.limits.plays.filter(|plays| used.plays >= *plays) {
            return Err(Denied::Plays(plays));
        }
        let period_ms = self.limits.period_s.map(|seconds| ms(seconds) - used.period_ms);
        if let Some(seconds) = self.limits.period_s.filter(|_seconds| period_ms.is_some_and(|left| left <= 0)) {
            return Err(Denied::PeriodTime(seconds / 3600));
        }
        let needs_hold = match self.play {
            PlayRule::Included | PlayRule::Metered => false,
            PlayRule::Prepaid if used.prepaid_ms <= 0 => return Err(Denied::PrepaidTime),
            PlayRule::Prepaid | PlayRule::PrepaidThenMetered => true,
        };
        let session_ms = self.limits.session_s.map(|seconds| ms(u64::from(seconds)));
        let longest_ms = [session_ms, period_ms].into_iter().flatten().min();
        Ok(Admission { longest_ms, priority: self.priority, is_trial: self.is_trial, needs_hold })
    }
}

fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// What a tenant may use at once, of all of its orders: what the scheduler calls its grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Sessions that it goes before borrowers for.
    pub guarantee: u32,
    /// Sessions beyond, while nobody who is under his guarantee waits for the same place.
    pub borrow: u32,
    /// Never more.
    pub maximum: u32,
    /// Its share of what becomes free: the largest of its orders'. 0 = it has no order.
    pub weight: u32,
}

/// The grants of one tenant, added up.
#[must_use]
pub fn quota<'a>(grants: impl IntoIterator<Item = &'a EntitlementGrant>) -> Quota {
    grants.into_iter().fold(Quota::default(), |sum, grant| Quota {
        guarantee: sum.guarantee.saturating_add(grant.concurrency.guarantee),
        borrow: sum.borrow.saturating_add(grant.concurrency.borrow),
        maximum: sum.maximum.saturating_add(grant.concurrency.maximum),
        weight: sum.weight.max(grant.weight),
    })
}
