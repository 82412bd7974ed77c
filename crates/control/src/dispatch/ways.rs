//! What a client measured, as the scheduler takes it.

use std::time::Duration;

use api::rest::{SiteProbe, SiteVerdict};
use scheduler::{Probe, SiteId};

use super::small;

/// Longest way that is playable, there and back: with the picture's own time it is about a third of a second from the hand to the eye. Longer offers
/// what nobody enjoys, shorter leaves sites empty that would do.
const MOST_ROUND_TRIP: Duration = Duration::from_millis(250);

/// How far the sites are, in the order of their numbers, and how far one may be.
///
/// Nobody measured: every site is as far as `unknown` says. Somebody did: a site that he did not measure, as a rule because it could not be reached,
/// is no nearer than the farthest that he did, and never too far. Who is far from all of them plays at the nearest, and not nowhere.
pub(super) fn ways(measured: &[SiteProbe], sites: &[String], unknown: Duration) -> (Vec<Probe>, Duration) {
    let round_trip = |probe: &SiteProbe| Duration::from_micros(probe.round_trip_us.into());
    let of = |site: &str| measured.iter().find(|probe| probe.site == site);
    let (Some(nearest), Some(farthest)) =
        (measured.iter().map(round_trip).min(), measured.iter().map(round_trip).max())
    else {
        return (Vec::new(), MOST_ROUND_TRIP);
    };
    let most = MOST_ROUND_TRIP.max(nearest);
    let probes = sites.iter().enumerate().map(|(number, site)| {
        let (round_trip, loss_permille) = match of(site) {
            Some(probe) => (round_trip(probe), probe.loss_permille),
            None => (unknown.max(farthest).min(most), 0),
        };
        Probe { site: SiteId(small(number)), round_trip, loss_permille }
    });
    (probes.collect(), most)
}

/// What sites say, with what was measured of the way to them.
pub(super) fn with_ways(mut said: Vec<SiteVerdict>, measured: &[SiteProbe]) -> Vec<SiteVerdict> {
    for verdict in &mut said {
        if let Some(probe) = measured.iter().find(|probe| probe.site == verdict.site) {
            verdict.round_trip_us = Some(probe.round_trip_us);
            verdict.loss_permille = Some(probe.loss_permille);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Duration = Duration::from_millis(100);

    #[test]
    fn sites_are_as_far_as_they_were_measured_and_others_are_no_nearer() {
        let check = |measured: &[(&str, u32, u16)], expected: &[(u64, u16)], most_ms: u64| {
            let measured: Vec<SiteProbe> = measured
                .iter()
                .map(|(site, ms, loss)| SiteProbe {
                    site: (*site).to_owned(),
                    round_trip_us: ms * 1000,
                    loss_permille: *loss,
                })
                .collect();
            let sites = ["rome", "oslo", "lima"].map(str::to_owned);
            let (probes, most) = ways(&measured, &sites, UNKNOWN);
            let expected: Vec<Probe> = expected
                .iter()
                .enumerate()
                .map(|(number, (ms, loss))| Probe {
                    site: SiteId(small(number)),
                    round_trip: Duration::from_millis(*ms),
                    loss_permille: *loss,
                })
                .collect();
            assert_eq!((probes, most), (expected, Duration::from_millis(most_ms)), "{measured:?}");
        };
        check(&[], &[], 250);
        check(&[("oslo", 20, 0), ("rome", 5, 30)], &[(5, 30), (20, 0), (100, 0)], 250);
        // Farther than what is not known.
        check(&[("oslo", 120, 0)], &[(120, 0), (120, 0), (120, 0)], 250);
        // Too far, and what was not measured is not.
        check(&[("oslo", 400, 0), ("rome", 30, 0)], &[(30, 0), (400, 0), (250, 0)], 250);
        // Far from everywhere.
        check(&[("oslo", 400, 0), ("rome", 300, 0)], &[(300, 0), (400, 0), (300, 0)], 300);
        // A site that is gone since counts as what it was measured to be, for the others.
        check(&[("bern", 10, 0)], &[(100, 0), (100, 0), (100, 0)], 250);
    }
}
