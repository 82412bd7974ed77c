//! Standard output and error: what the command says to people. Logs go through tracing.
//!
//! What cannot be said, on a full disk or a closed pipe, is not said: a service that runs goes on.

use std::io::{IsTerminal as _, Write as _};

/// A result.
pub(crate) fn out(text: &str) {
    let _unsaid = writeln!(std::io::stdout(), "{text}");
}

/// How far something is: one line of a terminal that is written over; empty when it is over. Nowhere else than on a terminal.
pub(crate) fn progress(line: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let _unseen = write!(terminal, "\r\x1b[K{line}").and_then(|()| terminal.flush());
    }
}

/// A fault that ends the command.
pub(crate) fn error(text: &str) {
    let _unsaid = writeln!(std::io::stderr(), "error: {text}");
}
