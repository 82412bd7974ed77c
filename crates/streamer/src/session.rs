//! Is there a player, how long do we wait for one, and why does it end: a state machine without clocks.
//!
//! ```text
//! AwaitingPlayer --connected--> Playing --lost--> Reconnecting --connected--> Playing
//!       |                          |                   |
//!       +--deadline                +--left             +--deadline          --> Ended
//! ```

use std::time::{Duration, Instant};

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody came yet.
    AwaitingPlayer {
        /// When waiting ends.
        deadline: Instant,
    },
    /// Media flows.
    Playing,
    /// The player's connection broke; they may come back.
    Reconnecting {
        /// When waiting ends.
        deadline: Instant,
    },
    /// Over.
    Ended(EndReason),
}

/// Why the streamer ends. The text is the reason of the REST contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Nobody connected in time.
    ConnectTimeout,
    /// The player did not come back in time.
    ReconnectTimeout,
    /// The player left, and the agent that could await another is gone.
    PlayerLeft,
    /// The game's display died.
    DisplayFailed,
    /// No encoder works.
    EncoderFailed,
}

impl EndReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EndReason::ConnectTimeout => "connect_timeout",
            EndReason::ReconnectTimeout => "reconnect_timeout",
            EndReason::PlayerLeft => "player_left",
            EndReason::DisplayFailed => "display_failed",
            EndReason::EncoderFailed => "encoder_failed",
        }
    }
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Session {
    phase: Phase,
    grace: Duration,
    agent_gone: bool,
}

impl Session {
    pub(crate) fn new(now: Instant, connect_timeout: Duration, grace: Duration) -> Session {
        Session { phase: Phase::AwaitingPlayer { deadline: now + connect_timeout }, grace, agent_gone: false }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// When [`Session::tick`] must be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::AwaitingPlayer { deadline } | Phase::Reconnecting { deadline } => Some(deadline),
            Phase::Playing | Phase::Ended(_) => None,
        }
    }

    pub(crate) fn connected(&mut self) {
        match self.phase {
            Phase::AwaitingPlayer { .. } | Phase::Reconnecting { .. } | Phase::Playing => self.phase = Phase::Playing,
            Phase::Ended(_) => {}
        }
    }

    pub(crate) fn lost(&mut self, now: Instant) {
        match self.phase {
            Phase::Playing if self.agent_gone => self.phase = Phase::Ended(EndReason::PlayerLeft),
            Phase::Playing => self.phase = Phase::Reconnecting { deadline: now + self.grace },
            Phase::AwaitingPlayer { .. } | Phase::Reconnecting { .. } | Phase::Ended(_) => {}
        }
    }

    /// Somebody is to come from now on: the wait for him begins. Whoever is there already stays.
    pub(crate) fn claimed(&mut self, now: Instant, connect_timeout: Duration) {
        match self.phase {
            Phase::AwaitingPlayer { .. } => self.phase = Phase::AwaitingPlayer { deadline: now + connect_timeout },
            Phase::Playing | Phase::Reconnecting { .. } | Phase::Ended(_) => {}
        }
    }

    /// The agent's socket closed. A player keeps playing; without one nobody could ever come.
    pub(crate) fn agent_gone(&mut self) {
        self.agent_gone = true;
        match self.phase {
            Phase::AwaitingPlayer { .. } | Phase::Reconnecting { .. } => self.fail(EndReason::PlayerLeft),
            Phase::Playing | Phase::Ended(_) => {}
        }
    }

    pub(crate) fn fail(&mut self, reason: EndReason) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(reason);
        }
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::AwaitingPlayer { deadline } if now >= deadline => self.fail(EndReason::ConnectTimeout),
            Phase::Reconnecting { deadline } if now >= deadline => self.fail(EndReason::ReconnectTimeout),
            Phase::AwaitingPlayer { .. } | Phase::Reconnecting { .. } | Phase::Playing | Phase::Ended(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: Duration = Duration::from_secs(30);
    const GRACE: Duration = Duration::from_secs(10);

    enum Step {
        Connected,
        Lost,
        AgentGone,
        Claimed,
        After(u64),
    }

    fn check(steps: &[Step], expected: fn(Phase) -> bool) {
        let mut now = Instant::now();
        let mut session = Session::new(now, CONNECT, GRACE);
        for step in steps {
            match step {
                Step::Connected => session.connected(),
                Step::Lost => session.lost(now),
                Step::AgentGone => session.agent_gone(),
                Step::Claimed => session.claimed(now, CONNECT / 2),
                Step::After(seconds) => {
                    now += Duration::from_secs(*seconds);
                    session.tick(now);
                }
            }
        }
        assert!(expected(session.phase()), "{:?}", session.phase());
    }

    #[test]
    fn waits_are_bounded_and_each_has_its_reason() {
        use Step::{After, AgentGone, Claimed, Connected, Lost};
        check(&[After(29)], |phase| matches!(phase, Phase::AwaitingPlayer { .. }));
        check(&[After(30)], |phase| phase == Phase::Ended(EndReason::ConnectTimeout));
        check(&[Connected, After(9999)], |phase| phase == Phase::Playing);
        check(&[Connected, Lost, After(9)], |phase| matches!(phase, Phase::Reconnecting { .. }));
        check(&[Connected, Lost, After(9), Connected, After(99)], |phase| phase == Phase::Playing);
        check(&[Connected, Lost, After(10)], |phase| phase == Phase::Ended(EndReason::ReconnectTimeout));
        check(&[Connected, Lost, After(10), Connected], |phase| phase == Phase::Ended(EndReason::ReconnectTimeout));
        check(&[After(29), Claimed, After(14)], |phase| matches!(phase, Phase::AwaitingPlayer { .. }));
        check(&[After(29), Claimed, After(15)], |phase| phase == Phase::Ended(EndReason::ConnectTimeout));
        check(&[Connected, Claimed, After(99)], |phase| phase == Phase::Playing);
        check(&[AgentGone], |phase| phase == Phase::Ended(EndReason::PlayerLeft));
        check(&[Connected, AgentGone, After(99)], |phase| phase == Phase::Playing);
        check(&[Connected, AgentGone, Lost], |phase| phase == Phase::Ended(EndReason::PlayerLeft));
    }
}
