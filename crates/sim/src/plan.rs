//! What a world is like.

use std::time::Duration;

use scheduler::Grant;

/// A site.
#[derive(Clone, Debug)]
pub struct SitePlan {
    /// So many nodes.
    pub nodes: u32,
    /// Places of each.
    pub places: u32,
    /// How far it is from the players of another site, there and back.
    pub distance: Duration,
}

/// A tenant.
#[derive(Clone, Debug)]
pub struct TenantPlan {
    /// What it ordered.
    pub grant: Grant,
    /// Players that come in an hour, in the mean of the day.
    pub per_hour: f64,
    /// Of a thousand so many are trials.
    pub trials_permille: u32,
}

/// A world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of all that is left to chance.
    pub seed: u64,
    /// How long players come; the world ends when the last session has.
    pub hours: u32,
    /// Where it runs.
    pub sites: Vec<SitePlan>,
    /// Who orders.
    pub tenants: Vec<TenantPlan>,
    /// How much more of them come at the height of the evening than in the mean, and less in the morning: 0 = the same all day, 1 = twice and none.
    pub wave: f64,
    /// Mean length of a session; lengths are exponential.
    pub session: Duration,
    /// How long players wait before they give up.
    pub patience: Duration,
    /// Mean time between two failures of one node; zero = never.
    pub between_failures: Duration,
    /// From a node's silence to its being called lost.
    pub confirm: Duration,
    /// How long a lost node is away.
    pub repair: Duration,
    /// Of a thousand players whose turn it is, so many have gone without a word.
    pub absent_permille: u32,
    /// The whole state is checked after each so manieth event.
    pub check_every: u64,
}

impl Plan {
    /// Three sites of 30, 20 and 10 nodes with ten places each; four tenants, of which one borrows, one has too little, one brings trials.
    #[must_use]
    pub fn usual(seed: u64) -> Plan {
        let site = |nodes, millis| SitePlan { nodes, places: 10, distance: Duration::from_millis(millis) };
        let tenant = |guarantee, borrow, weight, per_hour, trials_permille| TenantPlan {
            grant: Grant { guarantee, borrow, maximum: 10_000, weight },
            per_hour,
            trials_permille,
        };
        Plan {
            seed,
            hours: 24,
            sites: vec![site(30, 20), site(20, 35), site(10, 60)],
            tenants: vec![
                tenant(300, 100, 3, 450.0, 0),
                tenant(150, 300, 1, 350.0, 0),
                tenant(40, 0, 1, 120.0, 0),
                tenant(100, 50, 1, 150.0, 500),
            ],
            wave: 0.6,
            session: Duration::from_secs(1800),
            patience: Duration::from_secs(1200),
            between_failures: Duration::from_secs(10 * 24 * 3600),
            confirm: Duration::from_secs(2),
            repair: Duration::from_secs(1800),
            absent_permille: 30,
            check_every: 500,
        }
    }
}
