//! What came of a world.

/// What became of the estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waits {
    /// Players who were told an estimate and got a place.
    pub served: u64,
    /// Of those, so many within the band that they were told.
    pub within: u64,
    /// So many sooner.
    pub sooner: u64,
    /// Sum of the waits in seconds.
    pub waited_s: f64,
    /// Sum of what was expected.
    pub expected_s: f64,
}

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Sessions that were asked for.
    pub asked: u64,
    /// Had a node at once.
    pub at_once: u64,
    /// Had to wait for their tenant's own sessions to end.
    pub waited_for_quota: u64,
    /// Had to wait for anybody's.
    pub waited_for_capacity: u64,
    /// Were refused.
    pub refused: u64,
    /// Ended because the player had enough.
    pub played: u64,
    /// Gave up waiting.
    pub gave_up: u64,
    /// Were gone when it was their turn.
    pub absent: u64,
    /// Trials that were warned, reprieved, ended.
    pub warned: u64,
    /// See `warned`.
    pub reprieved: u64,
    /// See `warned`.
    pub ended_trials: u64,
    /// Nodes that were lost.
    pub lost_nodes: u64,
    /// Sessions on them.
    pub displaced: u64,
    /// Of those, so many had another node in the same moment.
    pub recovered_at_once: u64,
    /// Of those, so many never had one again.
    pub unrecovered: u64,
    /// Most sessions at once, most tickets at once.
    pub most_running: u64,
    /// See `most_running`.
    pub most_waiting: u64,
    /// Estimates of those who waited for capacity.
    pub waits: Waits,
    /// Sessions that had a place, by tenant.
    pub placed: Vec<u64>,
    /// Events of the world.
    pub events: u64,
}

impl Report {
    /// Sessions that came to their one end.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.refused + self.played + self.gave_up + self.absent + self.ended_trials
    }
}
