//! Properties over the schema, golden vectors, and the generated TypeScript.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::schema::{Field, Shape};
use crate::typescript::camel;
use crate::*;

/// Decodes either direction and encodes the result again.
fn recode(direction: usize, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    match direction {
        0 => ClientMessage::decode(bytes)?.encode(&mut out),
        _ => ServerMessage::decode(bytes)?.encode(&mut out),
    }
    Ok(out)
}

fn number(bytes: usize, max: u32) -> BoxedStrategy<Vec<u8>> {
    let highest = u32::MAX.checked_shr(8 * (4 - u32::try_from(bytes).unwrap())).unwrap().min(max);
    prop_oneof![Just(0), Just(highest), 0..=highest]
        .prop_map(move |number: u32| number.to_le_bytes()[..bytes].to_vec())
        .boxed()
}

fn prefixed(bytes: Vec<u8>) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
    out.extend(bytes);
    out
}

/// Valid bytes of a shape.
fn valid(shape: &Shape, max: u32) -> BoxedStrategy<Vec<u8>> {
    let most = usize::try_from(max.min(64)).unwrap();
    match *shape {
        Shape::Bool => number(1, 1),
        Shape::U8 => number(1, max),
        Shape::U16 | Shape::I16 => number(2, max),
        Shape::U32 | Shape::I32 => number(4, max),
        Shape::Bytes => proptest::collection::vec(any::<u8>(), 0..=most).prop_map(prefixed).boxed(),
        Shape::Text => proptest::collection::vec(any::<char>(), 0..=most / 4)
            .prop_map(|text| prefixed(text.into_iter().collect::<String>().into_bytes()))
            .boxed(),
        Shape::Option(inner) => {
            let some = valid(inner, max).prop_map(|bytes| [vec![1], bytes].concat());
            prop_oneof![Just(vec![0]), some].boxed()
        }
        Shape::Array(inner, count) => {
            proptest::collection::vec(valid(inner, max), count).prop_map(|each| each.concat()).boxed()
        }
        Shape::Number(number) => valid(&number.shape, max),
        Shape::Struct(fields) => all(fields.fields),
        Shape::Enum(choice) => (0..choice.variants.len()).prop_map(|index| vec![choice.variants[index].0]).boxed(),
        Shape::Union(union) => (0..union.variants.len())
            .prop_flat_map(|index| {
                let variant = &union.variants[index];
                all(variant.fields).prop_map(|bytes| [vec![variant.tag], bytes].concat())
            })
            .boxed(),
    }
}

fn all(fields: &'static [Field]) -> BoxedStrategy<Vec<u8>> {
    fields.iter().map(|field| valid(&field.shape, field.max)).collect::<Vec<_>>().prop_map(|each| each.concat()).boxed()
}

fn message() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (0..MESSAGES.len()).prop_flat_map(|direction| (Just(direction), valid(&MESSAGES[direction], u32::MAX)))
}

proptest! {
    #[test]
    fn every_valid_message_survives_the_round_trip((direction, bytes) in message()) {
        prop_assert_eq!(recode(direction, &bytes), Ok(bytes));
    }

    #[test]
    fn a_newer_peers_trailing_bytes_are_ignored((direction, bytes) in message(), more in proptest::collection::vec(any::<u8>(), 1..9)) {
        prop_assert_eq!(recode(direction, &[bytes.as_slice(), &more].concat()), Ok(bytes));
    }

    #[test]
    fn a_cut_message_is_refused_by_name((direction, bytes) in message(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(bytes.len());
        match recode(direction, &bytes[..cut]) {
            Err(DecodeError::Empty) => prop_assert_eq!(cut, 0),
            Err(DecodeError::Field { message, field, fault }) => {
                prop_assert_eq!(fault, Fault::EndsEarly);
                prop_assert!(!message.is_empty() && field.contains('.'));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn any_bytes_end_in_a_message_or_an_error(direction in 0..2_usize, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        // What decodes, decodes again from its own encoding: nothing is lost and nothing added.
        if let Ok(again) = recode(direction, &bytes) {
            prop_assert_eq!(recode(direction, &again), Ok(again));
        }
    }

    #[test]
    fn a_damaged_message_ends_in_a_message_or_an_error((direction, mut bytes) in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(again) = recode(direction, &bytes) {
            prop_assert_eq!(recode(direction, &again), Ok(again));
        }
    }
}

fn check_refused(bytes: &[u8], expected: &str) {
    assert_eq!(ClientMessage::decode(bytes).unwrap_err().to_string(), expected);
}

#[test]
fn refusals_name_the_field() {
    check_refused(&[], "the message is empty");
    check_refused(&[250], "unknown message type 250");
    check_refused(&vec![1; MAX_MESSAGE_BYTES + 1], "the message has 262145 bytes, more than 262144");
    check_refused(&[1, 9], "message Hello: field Hello.version ends early");
    check_refused(&[2, 0, 0, 0, 0, 0, 0, 0], "message Key: field Stamp.client_time_us ends early");
    check_refused(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 30, 0, 2], "message Key: field Key.pressed has no choice 2");
    check_refused(&[8, 4], "message PadConnect: field PadConnect.pad is 4, more than 3");
    check_refused(&[12, 1, 0, 1, 0], "message Clipboard: field Clipboard.text is 65537, more than 65536");
    check_refused(&[12, 1, 0, 0, 0, 0xff], "message Clipboard: field Clipboard.text is not UTF-8");
    check_refused(&[12, 5, 0, 0, 0, b'a'], "message Clipboard: field Clipboard.text ends early");
}

#[test]
fn a_long_text_is_cut_at_a_characters_end() {
    let mut bytes = Vec::new();
    ServerMessage::Complaint { text: "é".repeat(200) + "x" }.encode(&mut bytes);
    assert_eq!(ServerMessage::decode(&bytes), Ok(ServerMessage::Complaint { text: "é".repeat(128) }));
    bytes.clear();
    ServerMessage::Ended { reason: "x".repeat(63) + "é" }.encode(&mut bytes);
    assert_eq!(ServerMessage::decode(&bytes), Ok(ServerMessage::Ended { reason: "x".repeat(63) }));
}

#[test]
fn tags_are_unique_and_names_too() {
    for message in &MESSAGES {
        let Shape::Union(union) = message else { panic!("{message:?}") };
        let tags: std::collections::BTreeSet<u8> = union.variants.iter().map(|variant| variant.tag).collect();
        assert_eq!(tags.len(), union.variants.len(), "{}", union.name);
    }
}

/// One message of every type, with every branch of its fields, each field of a value of its own.
fn samples() -> (Vec<ClientMessage>, Vec<ServerMessage>) {
    use ClientMessage as C;
    use ServerMessage as S;
    let stamp = Stamp { sequence: 0x0403_0201, client_time_us: 0xfffe_fdfc };
    let position = PointerPosition { x: 1, y: 65_535 };
    let total = MotionTotal { x: -16, y: i32::MAX };
    let state = PadState { buttons: PadButtons(0x1_0001), axes: [-32_767, 32_767, 0, -1], triggers: [1, 255] };
    let report = FrameReport {
        presented: 60,
        dropped: 2,
        longest_gap_ms: 34,
        frame_age_100us: 215,
        input_to_photon_100us: 312,
        decode_100us: 17,
        display_slack_100us: 25,
        waiting: 3,
    };
    let button = |button, pressed, position| C::PointerButton { stamp, button, pressed, position, total };
    let touch = |id, phase| C::Touch { stamp, id, phase, position };
    let client = vec![
        C::Hello { version: PROTOCOL_VERSION },
        C::Key { stamp, code: KeyCode(30), pressed: true },
        C::Key { stamp, code: KeyCode(0x2fe), pressed: false },
        C::PointerMove { stamp, position },
        C::PointerMotion { stamp, total },
        button(Button::Left, true, Some(position)),
        button(Button::Right, false, None),
        button(Button::Middle, true, None),
        button(Button::Back, true, None),
        button(Button::Forward, true, None),
        C::Wheel { stamp, x: -120, y: 240 },
        touch(0, TouchPhase::Start),
        touch(15, TouchPhase::Move),
        touch(1, TouchPhase::End),
        touch(2, TouchPhase::Cancel),
        C::PadConnect { pad: 0 },
        C::PadDisconnect { pad: 3 },
        C::Pad { stamp, pad: 1, state },
        C::Text { stamp, text: "héllo, 世界 🪁".into() },
        C::Clipboard { text: String::new() },
        C::ReleaseAll,
        C::Resize { width: 1280, height: 720 },
        C::Ping { client_time_us: 0x8000_0000 },
        C::Report(report),
        C::RequestKeyFrame,
    ];
    let image = CursorImage { width: 2, height: 1, hotspot_x: 1, hotspot_y: 0, rgba: vec![255, 0, 0, 255, 1, 2, 3, 4] };
    let mark = FrameMark {
        rtp_timestamp: 0xdead_beef,
        input_sequence: 7,
        committed_us: 123_456,
        input_to_commit_100us: 80,
        capture_100us: 9,
        encode_100us: 64,
    };
    let statistics = StreamStatistics {
        frames_per_second: 60,
        video_kbps: 8_000,
        target_kbps: 12_000,
        encode_100us: 64,
        round_trip_100us: 201,
        resent_packets: 3,
        loss_fraction: 655,
    };
    let server = vec![
        S::Hello { version: PROTOCOL_VERSION, width: 1920, height: 1080, frames_per_second: 60 },
        S::StreamSize { width: 640, height: 400 },
        S::Cursor(Cursor::Hidden),
        S::Cursor(Cursor::Named("ns-resize".into())),
        S::Cursor(Cursor::Image(image)),
        S::PointerMode(PointerMode::Absolute),
        S::PointerMode(PointerMode::Locked),
        S::Clipboard { text: "copied".into() },
        S::Rumble { pad: 2, strong: 65_535, weak: 1, duration_ms: 500 },
        S::Pong { client_time_us: 5, server_time_us: 0xffff_ffff },
        S::FrameMark(mark),
        S::Statistics(statistics),
        S::Ended { reason: "game_exited".into() },
        S::Complaint { text: "message Key: field Key.pressed has no choice 2".into() },
    ];
    (client, server)
}

/// Reads bytes by the schema alone, into the JSON of the TypeScript types: the schema must tell what the codec does.
fn by_schema(shape: &Shape, bytes: &mut &[u8]) -> Value {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    fn prefixed<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
        let length = u32::from_le_bytes(take(bytes, 4).try_into().unwrap());
        take(bytes, usize::try_from(length).unwrap())
    }
    let fields = |fields: &[Field], bytes: &mut &[u8], mut object: Value| {
        for field in fields {
            object[camel(field.name)] = by_schema(&field.shape, bytes);
        }
        object
    };
    match *shape {
        Shape::Bool => json!(take(bytes, 1)[0] == 1),
        Shape::U8 => json!(take(bytes, 1)[0]),
        Shape::U16 => json!(u16::from_le_bytes(take(bytes, 2).try_into().unwrap())),
        Shape::U32 => json!(u32::from_le_bytes(take(bytes, 4).try_into().unwrap())),
        Shape::I16 => json!(i16::from_le_bytes(take(bytes, 2).try_into().unwrap())),
        Shape::I32 => json!(i32::from_le_bytes(take(bytes, 4).try_into().unwrap())),
        Shape::Text => json!(std::str::from_utf8(prefixed(bytes)).unwrap()),
        Shape::Bytes => json!(prefixed(bytes)),
        Shape::Option(inner) if take(bytes, 1)[0] == 1 => by_schema(inner, bytes),
        Shape::Option(_) => Value::Null,
        Shape::Array(inner, count) => (0..count).map(|_| by_schema(inner, bytes)).collect(),
        Shape::Number(number) => by_schema(&number.shape, bytes),
        Shape::Struct(inner) => fields(inner.fields, bytes, json!({})),
        Shape::Enum(choice) => {
            let tag = take(bytes, 1)[0];
            json!(camel(choice.variants.iter().find(|variant| variant.0 == tag).unwrap().1))
        }
        Shape::Union(union) => {
            let tag = take(bytes, 1)[0];
            let variant = union.variants.iter().find(|variant| variant.tag == tag).unwrap();
            fields(variant.fields, bytes, json!({ "type": camel(variant.name) }))
        }
    }
}

fn vectors() -> Vec<Value> {
    let (client, server) = samples();
    let vector = |shape: &Shape, direction: &str, bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut rest = bytes;
        let message = by_schema(shape, &mut rest);
        assert!(rest.is_empty(), "the schema misses {rest:?} of {message}");
        json!({ "direction": direction, "bytes": hex, "message": message })
    };
    let mut vectors = Vec::new();
    let mut bytes = Vec::new();
    for message in client {
        bytes.clear();
        message.encode(&mut bytes);
        assert_eq!(ClientMessage::decode(&bytes), Ok(message));
        vectors.push(vector(&MESSAGES[0], "client", &bytes));
    }
    for message in server {
        bytes.clear();
        message.encode(&mut bytes);
        assert_eq!(ServerMessage::decode(&bytes), Ok(message));
        vectors.push(vector(&MESSAGES[1], "server", &bytes));
    }
    vectors
}

/// Compares with the committed file, or rewrites it under `UPDATE=1`.
fn check_committed(path: &Path, content: &str, same: fn(&str, &str) -> bool) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(same(&committed, content), "{} is stale: run ./x generate and look at the difference", path.display());
}

#[test]
fn stale_vectors() {
    let vectors = vectors();
    for shape in &MESSAGES {
        let Shape::Union(union) = shape else { panic!("{shape:?}") };
        for variant in union.variants {
            let name = json!(camel(variant.name));
            assert!(vectors.iter().any(|vector| vector["message"]["type"] == name), "no vector of {name}");
        }
    }
    let lines: Vec<String> = vectors.iter().map(|vector| format!("  {vector}")).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors.json");
    // As values: the order of keys depends on who else is built with serde_json.
    check_committed(&path, &format!("[\n{}\n]\n", lines.join(",\n")), |old, new| {
        serde_json::from_str::<Value>(old).ok() == serde_json::from_str::<Value>(new).ok()
    });
}

#[test]
fn stale_typescript() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/sdk/src/protocol/wire.generated.ts");
    check_committed(&path, &typescript::generate(), |old, new| old == new);
}
