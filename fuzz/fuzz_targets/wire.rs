//! Whatever a player sends ends in a message or an error, and what was understood is kept exactly.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{ClientMessage, ServerMessage};

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    if let Ok(message) = ClientMessage::decode(bytes) {
        message.encode(&mut out);
        assert_eq!(out.as_slice(), &bytes[..out.len()]);
        assert_eq!(ClientMessage::decode(&out), Ok(message));
    }
    out.clear();
    if let Ok(message) = ServerMessage::decode(bytes) {
        message.encode(&mut out);
        assert_eq!(out.as_slice(), &bytes[..out.len()]);
        assert_eq!(ServerMessage::decode(&out), Ok(message));
    }
});
