//! Any bytes on the node link are frames, openings and tokens that survive being written again, or errors; and no more is
//! kept for them than the limit says.
#![no_main]

use api::node::{FromNode, ToNode};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use link::JoinToken;
use link::frame::{Frame, Message, OPENING_LIMIT, Opening, Reply, codec, decode, encode};
use tokio_util::codec::Decoder;

/// A frame that was understood is the same when it was written and read again.
fn frame<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(frame) = decode::<Frame<M>>(bytes) {
        let again = encode(&frame).expect("a frame is JSON");
        assert_eq!(decode::<Frame<M>>(&again).as_ref(), Ok(&frame));
    }
}

fn all(bytes: &[u8]) {
    frame::<ToNode>(bytes);
    frame::<FromNode>(bytes);
    if let Ok(Ok(opening)) = Opening::decode(bytes) {
        let again = encode(&opening).expect("an opening is JSON");
        assert_eq!(Opening::decode(&again), Ok(Ok(opening)));
    }
    if let Ok(reply) = decode::<Reply>(bytes) {
        let again = encode(&reply).expect("a reply is JSON");
        assert_eq!(decode::<Reply>(&again), Ok(reply));
    }
}

fuzz_target!(|bytes: &[u8]| {
    all(bytes);
    let mut stream = BytesMut::from(bytes);
    let mut codec = codec(OPENING_LIMIT);
    while let Ok(Some(bytes)) = codec.decode(&mut stream) {
        assert!(bytes.len() <= OPENING_LIMIT);
        all(&bytes);
    }
    assert!(stream.capacity() <= 2 * (OPENING_LIMIT + bytes.len() + 64));
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(token) = text.parse::<JoinToken>()
    {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
});
