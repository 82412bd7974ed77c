//! The link over real sockets on the loopback.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong in a test's support fails the test")]

mod authority;
mod join;
mod link;
mod strangers;
mod support;
