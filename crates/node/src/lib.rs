//! The agent of one machine: makes observed instances equal desired ones.
