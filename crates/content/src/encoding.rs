//! How trees and indexes become bytes. Pure.

use serde::Serialize;

/// Appends the encoding of a value, which has a length: lists, numbers, bytes.
pub(crate) fn encode_onto(bytes: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, bytes).unwrap_or_else(|error| {
        // Serialisation into memory fails for types that have no length only, and all of ours have one.
        unreachable!("a value without a length: {error}")
    })
}
