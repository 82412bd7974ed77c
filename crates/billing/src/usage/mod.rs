//! What was used: facts as they happen, and the disjoint intervals that follow from them, in whatever order and however often they come.
//!
//! What is billed is the time in which the player could play: from `connected` until the connection is lost, or until the instance is told to stop.
//! Waiting, preparing, `ready` without a player, `reconnecting`, stopping and archiving cost nobody anything: the place is held then, and nothing
//! can be played. Each return after `reconnecting` is a span of its own, each instance an epoch. [`Tracker`] is that rule.
//!
//! Where it is unclear how long a span lasted, the shortest time that the facts allow counts: in the customer's favour.
//! Deliberately absent: what anything costs.

mod book;
mod fact;
mod tracker;

pub use self::book::{Added, Book, Ending, Interval, Life, Refused, Timeline, verify_intervals};
pub use self::fact::{Closing, Fact, FactId, FactKind, MAX_EPOCH, MAX_SPAN};
pub use self::tracker::Tracker;
