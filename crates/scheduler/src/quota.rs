//! What a tenant may use at once: guarantee, borrow limit, maximum (the model of Kueue and Volcano), and its weight among others.

/// What a tenant ordered, for all sites together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Sessions that it goes before borrowers for.
    pub guarantee: u32,
    /// Sessions beyond, while nobody who is under his guarantee waits for the same place.
    pub borrow: u32,
    /// Never more, whatever it could borrow.
    pub maximum: u32,
    /// Its share of what becomes free, against the others that wait: twice the weight is served twice as often. At least 1.
    pub weight: u32,
}

impl Grant {
    /// Sessions at once.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.guarantee.saturating_add(self.borrow).min(self.maximum)
    }
}

/// What one placement of weight 1 costs in virtual time. Larger tells larger weights apart, smaller lets the sum last longer: a session of each
/// nanosecond for five hundred years.
const STEP: u64 = 1 << 20;

/// A tenant as the scheduler keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) grant: Grant,
    /// Sessions that it has, offers and those that are to be recovered included.
    pub(crate) used: u32,
    /// Served so much, in virtual time: who is behind is served first (start-time fair queueing, Goyal et al. 1996).
    pub(crate) served: u64,
    /// Tickets that wait.
    pub(crate) waiting: u32,
}

impl Tenant {
    pub(crate) fn new(grant: Grant) -> Tenant {
        Tenant { grant, used: 0, served: 0, waiting: 0 }
    }

    pub(crate) fn has_quota(&self) -> bool {
        self.used < self.grant.limit()
    }

    pub(crate) fn is_borrowing(&self) -> bool {
        self.used >= self.grant.guarantee
    }

    /// One of its tickets was served.
    pub(crate) fn serve(&mut self) {
        self.served = self.served.saturating_add((STEP / u64::from(self.grant.weight.max(1))).max(1));
    }

    /// It begins to wait: what it did not use before is not saved up.
    pub(crate) fn catch_up(&mut self, served: u64) {
        self.served = self.served.max(served);
    }
}
