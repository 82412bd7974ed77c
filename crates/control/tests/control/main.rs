//! The control plane over real HTTP and WebSockets, with a real database and a scripted node.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong in a test's support fails the test")]

mod access;
mod authorisation;
mod backup;
mod bodies;
mod capacity;
mod commands;
mod content;
mod demands;
mod keeper;
mod lifecycle;
mod link;
mod observed;
mod origins;
mod players;
mod pools;
mod queue;
mod restart;
mod saves;
mod sites;
mod stale;
mod strangers;
mod support;
mod usage;
mod web;
