//! The contracts between Kite's programs: typed ids, the manifest, the streamer's and the echo's contract, the node contract, REST.
//!
//! Deliberately absent: logic, SQL, I/O.

pub mod access;
pub mod clock;
pub mod command;
pub mod content;
pub mod echo;
pub mod fleet;
pub mod id;
pub mod manifest;
pub mod node;
pub mod pool;
pub mod problem;
pub mod rest;
pub mod saves;
pub mod session;
pub mod spec;
pub mod streamer;
pub mod tenant;
pub mod trace;
pub mod usage;
