//! Standard output and error: what the command says to people. Logs go through tracing.
//!
//! What cannot be said, on a full disk or a closed pipe, is not said: a service that runs goes on.

use std::io::Write as _;

/// A result.
pub(crate) fn out(text: &str) {
    let _unsaid = writeln!(std::io::stdout(), "{text}");
}

/// A fault that ends the command.
pub(crate) fn error(text: &str) {
    let _unsaid = writeln!(std::io::stderr(), "error: {text}");
}
