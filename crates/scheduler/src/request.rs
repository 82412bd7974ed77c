//! What is asked: a session of a player, with everything that decides where it may be.

use std::time::Duration;

use crate::resources::Resources;

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);
    )* };
}

handles! {
    /// A site, as the fleet counts them.
    SiteId(u32);
    /// A node, as the fleet counts them.
    NodeId(u32);
    /// A hardware class. Whoever asks numbers them.
    ClassId(u16);
    /// A tenant. Whoever asks numbers them.
    TenantId(u32);
    /// A release. Whoever asks numbers them.
    ReleaseId(u32);
    /// A session. Whoever asks numbers them, and never gives a number twice.
    SessionId(u64);
}

/// What a player's client measured of the way to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Which.
    pub site: SiteId,
    /// There and back, the median of several.
    pub round_trip: Duration,
    /// Lost packets of a thousand.
    pub loss_permille: u16,
}

/// Who goes before whom within a tenant: higher first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

/// A session that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose it is.
    pub tenant: TenantId,
    /// What shall run.
    pub release: ReleaseId,
    /// On what.
    pub class: ClassId,
    /// How much it takes, as measured of this release and spec.
    pub resources: Resources,
    /// Who goes first within the tenant.
    pub priority: Priority,
    /// True for one that may be ended, with a warning, when others have nowhere to play.
    pub is_trial: bool,
    /// What was measured. A site of which nothing was is taken as being [`Settings::unknown_round_trip`](crate::Settings) away.
    pub probes: Vec<Probe>,
    /// Sites that may be taken; `None` = all.
    pub sites: Option<Vec<SiteId>>,
    /// Longest way there and back that is playable.
    pub most_round_trip: Duration,
    /// How long it waits at most.
    pub patience: Duration,
}

impl Request {
    pub(crate) fn probe(&self, site: SiteId) -> Option<&Probe> {
        self.probes.iter().find(|probe| probe.site == site)
    }

    pub(crate) fn may_be_at(&self, site: SiteId) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contains(&site))
    }
}
