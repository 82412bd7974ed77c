//! What the software encoders produce, decoded again and compared with what went in.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod decode;
mod scene;

use std::time::Instant;

use encode::{Choice, EncodeError, Encoder, VideoSettings};
use media::{Bitrate, ColorMatrix, EncodedUnit, Frame, FrameRate, Size, VideoCodec};

use decode::{decode, probe, psnr};
use scene::Scene;

fn settings(codec: VideoCodec, size: Size, kbps: u64) -> VideoSettings {
    let mut settings = VideoSettings::new(codec, size, FrameRate::FPS_60, Bitrate::from_kbps(kbps));
    settings.choice = Choice::Software;
    settings
}

fn encode(encoder: &mut Encoder, frame: &Frame, key: bool) -> EncodedUnit {
    encoder.encode(frame, key, Instant::now).unwrap().expect("every picture gives its unit at once")
}

fn nal_types(unit: &EncodedUnit) -> Vec<u8> {
    let starts = unit.data.windows(4).filter(|bytes| bytes[..3] == [0, 0, 1]);
    starts.map(|bytes| bytes[3] & 0x1f).collect()
}

#[test]
fn decodes_to_the_source() {
    let check = |codec, width, height, kbps, least_psnr: f64| {
        let size = Size::new(width, height).unwrap();
        let settings = settings(codec, size, kbps);
        let scene = Scene::new(size, settings.matrix);
        let mut encoder = encode::open(&settings).unwrap();
        let frames: Vec<Frame> = (0..12).map(|position| scene.frame(position)).collect();
        let units: Vec<EncodedUnit> = frames.iter().map(|frame| encode(&mut encoder, frame, false)).collect();
        assert!(units[0].key && units[1..].iter().all(|unit| !unit.key), "{codec:?} {size}");
        assert!(units.iter().all(|unit| unit.size == size && unit.codec == codec));
        let pictures = decode(&units, size);
        assert_eq!(pictures.len(), frames.len(), "{codec:?} {size}");
        let last = psnr(&frames[11], &pictures[11]);
        assert!(last > least_psnr, "{codec:?} {size}: {last} dB");
    };
    check(VideoCodec::H264, 1280, 720, 20_000, 32.0);
    check(VideoCodec::H264, 854, 480, 12_000, 32.0);
    check(VideoCodec::H264, 1366, 768, 22_000, 32.0);
    check(VideoCodec::H264, 1921, 1081, 40_000, 32.0);
    check(VideoCodec::H264, 64, 64, 2000, 32.0);
    check(VideoCodec::H264, 66, 642, 4000, 30.0);
    check(VideoCodec::Vp8, 1280, 720, 20_000, 30.0);
    check(VideoCodec::Vp8, 854, 480, 12_000, 30.0);
    check(VideoCodec::Vp8, 66, 642, 4000, 28.0);
}

#[test]
fn stream_is_what_browsers_negotiate() {
    let settings = settings(VideoCodec::H264, Size::HD, 8000);
    let scene = Scene::new(Size::HD, settings.matrix);
    let mut encoder = encode::open(&settings).unwrap();
    assert_eq!((encoder.name(), encoder.codec(), encoder.size()), ("libx264", VideoCodec::H264, Size::HD));
    let units: Vec<_> = (0..3).map(|position| encode(&mut encoder, &scene.frame(position), false)).collect();
    let stream = probe(&units, Size::HD);
    for line in ["profile=Constrained Baseline", "has_b_frames=0", "refs=1", "color_range=tv", "color_space=bt709"] {
        assert!(stream.contains(line), "{line} is missing in\n{stream}");
    }
    assert_eq!(units[0].data[..4], [0, 0, 0, 1], "Annex B");
}

#[test]
fn key_frames_come_on_request_and_only_then() {
    let check = |codec| {
        let settings = settings(codec, Size::HD, 8000);
        let scene = Scene::new(Size::HD, settings.matrix);
        let mut encoder = encode::open(&settings).unwrap();
        let mut units = Vec::new();
        for position in 0..40 {
            // Frame 20 is a cut to another scene, which must not bring a key frame.
            let frame = scene.frame(if position >= 20 { position + 5000 } else { position });
            units.push(encode(&mut encoder, &frame, position == 10));
        }
        let keys: Vec<usize> = (0..40).filter(|index| units[*index].key).collect();
        assert_eq!(keys, [0, 10], "{codec:?}");
        if codec == VideoCodec::H264 {
            assert!(nal_types(&units[10]).starts_with(&[7, 8]), "SPS and PPS in band: {:?}", nal_types(&units[10]));
            assert!(nal_types(&units[10]).contains(&5) && nal_types(&units[9]).iter().all(|kind| *kind == 1));
        }
        assert_eq!(decode(&units[10..], Size::HD).len(), 30, "{codec:?}: decoding starts at the key frame");
    };
    check(VideoCodec::H264);
    check(VideoCodec::Vp8);
}

/// Kilobits per second of these units at 60 frames a second.
fn kbps(units: &[EncodedUnit]) -> u64 {
    let bytes: usize = units.iter().map(|unit| unit.data.len()).sum();
    bytes as u64 * 8 * 60 / units.len() as u64 / 1000
}

#[test]
fn bitrate_is_followed_without_key_frames() {
    let check = |codec| {
        let size = Size::new(640, 360).unwrap();
        let settings = settings(codec, size, 8000);
        let scene = Scene::new(size, settings.matrix);
        let mut encoder = encode::open(&settings).unwrap();
        let mut position = 0;
        for target in [8000, 3000, 5000] {
            encoder.set_bitrate(Bitrate::from_kbps(target)).unwrap();
            assert_eq!(encoder.bitrate(), Bitrate::from_kbps(target));
            let mut units = Vec::new();
            for _ in 0..50 {
                // Far apart, so that no picture predicts the next one and every bit is wanted.
                units.push(encode(&mut encoder, &scene.frame(position), false));
                position += 977;
            }
            assert!(units[1..].iter().all(|unit| !unit.key), "{codec:?} at {target}");
            let rate = kbps(&units[20..]);
            assert!((target * 75 / 100..=target * 115 / 100).contains(&rate), "{codec:?}: {rate} of {target} kbit/s");
        }
    };
    check(VideoCodec::H264);
    check(VideoCodec::Vp8);
}

#[test]
fn no_picture_weighs_much_more_than_a_frame() {
    let settings = settings(VideoCodec::H264, Size::HD, 6000);
    let scene = Scene::new(Size::HD, settings.matrix);
    let mut encoder = encode::open(&settings).unwrap();
    let budget = 6_000_000 / 8 / 60;
    for position in 0..40_u32 {
        // A cut at every tenth picture, and a key frame in between.
        let frame = scene.frame(position + position / 10 * 3000);
        let bytes = encode(&mut encoder, &frame, position % 10 == 5).data.len();
        assert!(bytes < budget * 17 / 10, "picture {position}: {bytes} bytes of {budget}");
    }
}

#[test]
fn still_pictures_get_sharp_and_then_cost_almost_nothing() {
    let check = |codec, sharp: f64, idle_kbps| {
        let settings = settings(codec, Size::HD, 4000);
        let scene = Scene::new(Size::HD, settings.matrix);
        let mut encoder = encode::open(&settings).unwrap();
        let mut units: Vec<_> = (0..20).map(|position| encode(&mut encoder, &scene.frame(position), false)).collect();
        let still = scene.frame(20);
        units.extend((0..200).map(|_| encode(&mut encoder, &still, false)));
        let pictures = decode(&units, Size::HD);
        let (moving, after) = (psnr(&scene.frame(19), &pictures[19]), psnr(&still, &pictures[219]));
        assert!(after > sharp && after > moving + 3.0, "{codec:?}: {moving} dB in motion, {after} dB at rest");
        let idle = kbps(&units[190..]);
        assert!(idle < idle_kbps, "{codec:?}: {idle} kbit/s at rest");
    };
    check(VideoCodec::H264, 44.0, 50);
    check(VideoCodec::Vp8, 42.0, 300);
}

#[test]
fn other_pictures_are_refused() {
    let mut encoder = encode::open(&settings(VideoCodec::H264, Size::HD, 4000)).unwrap();
    let other_size = Scene::new(Size::FULL_HD, ColorMatrix::Bt709).frame(0);
    let other_matrix = Scene::new(Size::HD, ColorMatrix::Bt601).frame(0);
    for frame in [other_size, other_matrix] {
        let error = encoder.encode(&frame, false, Instant::now).unwrap_err();
        assert!(matches!(error, EncodeError::WrongPicture { expected: Size::HD, .. }), "{error}");
    }
    let good = Scene::new(Size::HD, ColorMatrix::Bt709).frame(0);
    assert!(encode(&mut encoder, &good, false).key, "the encoder still works");
}
