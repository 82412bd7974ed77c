//! Sites as players see them: which there are, and how far away. What a client says of the way decides where its own session goes, and nothing else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use api::id::NodeId;
use api::node::OfferFailure;
use api::problem::{Problem, ProblemKind};
use api::rest::{MAX_PROBES, MAX_ROUND_TRIP_US, Site, SiteList, SiteProbe};

use super::Plane;
use super::access::Caller;
use super::rate::Rate;
use super::sessions::too_often;

/// Sites that a client measures before a session: it may do so as often as it may create sessions.
const SITES_A_SESSION: u32 = 8;

/// Nodes of a site that are asked before it is given up: one may be busy or gone in this moment.
const ATTEMPTS: usize = 3;

/// Longest reason of an echo that is passed on, in characters.
const MAX_DETAIL: usize = 300;

/// How often an address may measure, by how often it may create sessions.
pub(crate) fn rate(creations: Rate) -> Rate {
    Rate {
        burst: creations.burst.saturating_mul(SITES_A_SESSION),
        per_minute: creations.per_minute.saturating_mul(SITES_A_SESSION),
    }
}

impl Plane {
    /// The sites to which a client can measure the way.
    pub(crate) fn list_sites(&self, caller: &Caller) -> Result<SiteList, Problem> {
        self.may_play(caller)?;
        let names: BTreeSet<String> = self
            .coordinator
            .fleet
            .read(|nodes| nodes.filter(|node| node.has_echo()).map(|node| node.record.site.clone()).collect());
        Ok(SiteList { sites: names.into_iter().map(|name| Site { name }).collect() })
    }

    /// Has a client's offer answered by a node of the site, each time another one.
    pub(crate) async fn measure(
        &self,
        caller: &Caller,
        address: &str,
        site: &str,
        sdp: String,
    ) -> Result<String, Problem> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        self.may_play(caller)?;
        let taken = self.measurements.take(address, Instant::now());
        taken.map_err(|wait| too_often("The way was measured", wait))?;
        if !sdp.starts_with("v=0") {
            return Err(ProblemKind::InvalidOffer.because("The body is no SDP: it does not begin with `v=0`."));
        }
        let nodes: Vec<NodeId> = self.coordinator.fleet.read(|nodes| {
            nodes.filter(|node| node.has_echo() && node.record.site == site).map(|node| node.record.id).collect()
        });
        if nodes.is_empty() {
            return Err(ProblemKind::SiteUnknown.because("No machine of such a site answers measurements."));
        }
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        for attempt in 0..ATTEMPTS.min(nodes.len()) {
            let node = nodes[turn.wrapping_add(attempt) % nodes.len()];
            match self.coordinator.fleet.echo(node, sdp.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(OfferFailure::Refused { detail }) => return Err(refused(&detail)),
                // Who measures has no time for another one after this.
                Err(OfferFailure::Timeout) => break,
                Err(OfferFailure::Busy | OfferFailure::Gone) => {}
            }
        }
        Err(ProblemKind::SiteBusy.because("The site's machines do not answer measurements now."))
    }

    /// What a client measured, as it is kept: of sites that are known.
    pub(crate) fn accepted_probes(&self, probes: Vec<SiteProbe>) -> Result<Vec<SiteProbe>, Problem> {
        check(&probes).map_err(|detail| ProblemKind::InvalidRequest.because(detail))?;
        if probes.is_empty() {
            return Ok(probes);
        }
        let known: BTreeSet<String> =
            self.coordinator.fleet.read(|nodes| nodes.map(|node| node.record.site.clone()).collect());
        Ok(probes.into_iter().filter(|probe| known.contains(&probe.site)).collect())
    }
}

fn refused(detail: &str) -> Problem {
    let detail: String = detail.chars().take(MAX_DETAIL).collect();
    let detail = detail.trim_end_matches('.');
    let mut problem = ProblemKind::InvalidOffer.because(format!("The offer cannot be used to measure: {detail}."));
    "Offer one data channel and nothing else.".clone_into(&mut problem.remedy);
    problem
}

fn check(probes: &[SiteProbe]) -> Result<(), String> {
    if probes.len() > MAX_PROBES {
        return Err(format!("`probes` has {} entries, of at most {MAX_PROBES}.", probes.len()));
    }
    let mut sites = BTreeSet::new();
    for probe in probes {
        let site: String = probe.site.chars().take(60).collect();
        if !sites.insert(&probe.site) {
            return Err(format!("`probes` names the site `{site}` twice."));
        }
        if probe.round_trip_us > MAX_ROUND_TRIP_US || probe.loss_permille > 1000 {
            return Err(format!("`probes` has a way to `{site}` of more than 10 s, or with more lost than sent."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(site: &str, round_trip_us: u32, loss_permille: u16) -> SiteProbe {
        SiteProbe { site: site.to_owned(), round_trip_us, loss_permille }
    }

    #[test]
    fn what_a_client_says_is_bounded() {
        let many = |count: usize| (0..count).map(|number| probe(&format!("site {number}"), 1, 0)).collect::<Vec<_>>();
        let say = |probes: &[SiteProbe], expected: Result<(), &str>| {
            let said = check(probes);
            match expected {
                Ok(()) => assert_eq!(said, Ok(())),
                Err(sentence) => assert!(said.as_ref().is_err_and(|said| said.contains(sentence)), "{said:?}"),
            }
        };
        say(&[], Ok(()));
        say(&many(64), Ok(()));
        say(&many(65), Err("65 entries, of at most 64"));
        say(&[probe("a", 10_000_000, 1000), probe("b", 0, 0)], Ok(()));
        say(&[probe("a", 1, 0), probe("b", 1, 0), probe("a", 2, 0)], Err("`a` twice"));
        say(&[probe("a", 10_000_001, 0)], Err("more than 10 s"));
        say(&[probe("a", 1, 1001)], Err("more lost than sent"));
    }
}
