//! The tables as SeaORM sees them.

pub(super) mod session;
