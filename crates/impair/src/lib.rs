//! A bad network that is bad in the same way every time.
//!
//! [`Link`] is one direction of a path as a state machine: packets and times in, packets and times out. Tests drive it in simulated
//! time; the program `impair` drives two of them in real time as a UDP proxy. Deliberately absent here: sockets and clocks.

mod conditions;
mod link;
mod random;

pub use conditions::{Conditions, ParseError};
pub use link::{Counters, Link};
pub use random::Random;
