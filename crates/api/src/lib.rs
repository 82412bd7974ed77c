//! The contracts between Kite's programs: typed ids, the manifest, the streamer contract, the node contract, REST.
//!
//! Deliberately absent: logic, SQL, I/O.

pub mod id;
pub mod streamer;
