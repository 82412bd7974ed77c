//! Any text as a `traceparent`: refused, or read as what is written again.
#![no_main]

use api::trace::TraceParent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(parent) = text.parse::<TraceParent>() else { return };
    assert_eq!(parent.to_string().parse(), Ok(parent));
});
