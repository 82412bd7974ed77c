//! The tables as SeaORM sees them.

pub(super) mod player;
pub(super) mod session;
