//! What the scheduler says, as players and operators read it.

use api::rest::{QueuePlace, SiteVerdict, WaitEstimate};
use api::session::WaitCause;
use scheduler::{Estimate, Explanation, NodeId, Verdict, WaitReason, Waiting};

use super::Dispatcher;

impl Dispatcher {
    /// What each site said.
    pub(super) fn verdicts(&self, why: &Explanation) -> Vec<SiteVerdict> {
        let named = why.0.iter().filter_map(|(site, verdict)| Some((self.sites.name(site.0 as usize)?, verdict)));
        named.map(|(site, verdict)| said(site, verdict)).collect()
    }

    /// Where a session was placed.
    pub(super) fn chosen(&self, node: NodeId) -> Vec<SiteVerdict> {
        let site = self.scheduler.site_of(node);
        self.sites
            .name(site.0 as usize)
            .map(|site| said(site, &Verdict::Chosen { node, score: 0 }))
            .into_iter()
            .collect()
    }
}

fn said(site: &str, verdict: &Verdict) -> SiteVerdict {
    let detail = match verdict {
        Verdict::Chosen { .. } => "it is here".to_owned(),
        other => other.to_string(),
    };
    let (site, verdict) = (site.to_owned(), verdict.word().to_owned());
    SiteVerdict { site, verdict, detail, round_trip_us: None, loss_permille: None }
}

/// What a wait is for.
pub(super) fn cause(reason: &WaitReason) -> WaitCause {
    match reason {
        WaitReason::Quota { .. } => WaitCause::Quota,
        WaitReason::Capacity => WaitCause::Capacity,
    }
}

/// How a wait stands.
pub(super) fn place(waiting: &Waiting, sites: Vec<SiteVerdict>) -> QueuePlace {
    let Waiting { reason, position, estimate } = waiting;
    let place = if *position == 1 { "You are next.".to_owned() } else { format!("You are number {position}.") };
    let what = match reason {
        WaitReason::Quota { limit } => {
            format!("All {limit} places that were ordered for this game are taken: one of them has to become free.")
        }
        WaitReason::Capacity => "All places are taken.".to_owned(),
    };
    let when = estimate.map_or_else(String::new, |estimate| format!(" {}", sentence(&estimate)));
    let estimate = estimate.map(|estimate| WaitEstimate {
        low_s: seconds(estimate.low),
        expected_s: seconds(estimate.expected),
        high_s: seconds(estimate.high),
    });
    QueuePlace { cause: cause(reason), position: *position, estimate, sentence: format!("{what} {place}{when}"), sites }
}

fn seconds(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// In words as coarse as what is known.
fn sentence(estimate: &Estimate) -> String {
    let minutes = |duration: std::time::Duration| duration.as_secs().div_ceil(60).max(1);
    match (minutes(estimate.low), minutes(estimate.high)) {
        (_, 1) => "It will take less than a minute.".to_owned(),
        (low, high) if low == high => format!("It will take about {low} minutes."),
        (low, high) => format!("It will take {low} to {high} minutes."),
    }
}
