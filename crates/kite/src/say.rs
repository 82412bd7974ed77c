//! Standard output and error: what the command says to people. Logs go through tracing.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's mouth")]

/// A result.
pub(crate) fn out(text: &str) {
    println!("{text}");
}

/// A fault that ends the command.
pub(crate) fn error(text: &str) {
    eprintln!("error: {text}");
}
