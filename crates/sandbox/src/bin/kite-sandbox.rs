//! The helper that a caller of the `sandbox` library starts for one game. Not for use by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox::helper_main()
}
