//! The control plane over real HTTP and WebSockets, with a real database and a scripted node.

mod authorisation;
mod bodies;
mod capacity;
mod lifecycle;
mod link;
mod origins;
mod restart;
mod stale;
mod support;
mod web;
