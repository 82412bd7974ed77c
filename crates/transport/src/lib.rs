//! A WebRTC session as a state machine over str0m: negotiation, pacing, rate control, recovery.
//!
//! [`Peer`] is driven from outside: feed it an offer, datagrams and the time; take datagrams, events and the time of the next
//! wake-up from it. One peer serves one player: one video and one audio stream out, two data channels both ways.
//!
//! | what | how |
//! |---|---|
//! | connection | ICE-lite, all candidates in the answer, the player's address is learnt from its checks |
//! | latency | playout delay 0/0 on every frame, video and sound in separate streams, frames leave in one burst when the path allows |
//! | loss | NACK and RTX; a key frame when the player asks for one |
//! | congestion | str0m's estimate from transport-wide feedback, under a guard of our own on the queueing delay ([`rate`]) |
//!
//! [`echo::Echo`] is a second, much smaller peer: it sends back what comes, so that a player's client can measure the way.
//!
//! Deliberately absent: sockets, threads, clocks (an `Instant` comes in with every call), encoding, and the meaning of
//! data-channel messages.

pub mod echo;
mod exchange;
mod feedback;
mod keyframe;
mod negotiate;
mod offer;
mod peer;
pub mod rate;
mod settings;

pub use exchange::{
    Backlog, Channel, CloseReason, Input, Output, PeerEvent, Protocol, SendError, Statistics, Transmit,
};
pub use offer::{MAX_OFFER_BYTES, OfferError};
pub use peer::Peer;
pub use settings::{BitrateLimits, PeerSettings};
