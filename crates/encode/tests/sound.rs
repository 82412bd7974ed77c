//! Opus packets, decoded again with libopus.

use std::f64::consts::TAU;
use std::time::Instant;

use encode::{FRAMES_PER_PACKET, OpusEncoder, OpusError};
use media::{Bitrate, PcmBlock};

/// Block `index` of a tone, the right channel at half the amplitude of the left.
fn tone(index: usize, hertz: f64) -> PcmBlock {
    let sample = |frame: usize| {
        let time = (index * FRAMES_PER_PACKET + frame) as f64 / f64::from(PcmBlock::SAMPLE_RATE);
        10_000.0 * (TAU * hertz * time).sin()
    };
    let samples =
        (0..FRAMES_PER_PACKET).flat_map(|frame| [sample(frame) as i16, (sample(frame) / 2.0) as i16]).collect();
    PcmBlock { samples, captured: Instant::now() }
}

/// Amplitude of one frequency in samples of one channel.
fn amplitude(samples: &[i16], hertz: f64) -> f64 {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let phase = TAU * hertz * index as f64 / f64::from(PcmBlock::SAMPLE_RATE);
        sine += f64::from(*sample) * phase.sin();
        cosine += f64::from(*sample) * phase.cos();
    }
    2.0 * sine.hypot(cosine) / samples.len() as f64
}

#[test]
fn a_tone_survives_on_both_channels() {
    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(128)).unwrap();
    let mut decoder = opus::Decoder::new(PcmBlock::SAMPLE_RATE, opus::Channels::Stereo).unwrap();
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for index in 0..100 {
        let packet = encoder.encode(&tone(index, 440.0)).unwrap();
        let mut pcm = [0; FRAMES_PER_PACKET * PcmBlock::CHANNELS];
        assert_eq!(decoder.decode(&packet.data, &mut pcm, false).unwrap(), FRAMES_PER_PACKET);
        left.extend(pcm.iter().step_by(2).copied());
        right.extend(pcm.iter().skip(1).step_by(2).copied());
    }
    // The first tenth of a second is the codec settling.
    for (channel, expected) in [(&left[4800..], 10_000.0), (&right[4800..], 5000.0)] {
        let got = amplitude(channel, 440.0);
        assert!((got / expected - 1.0).abs() < 0.05, "{got} instead of {expected}");
        assert!(amplitude(channel, 1000.0) < 100.0);
    }
}

#[test]
fn bitrate_is_followed() {
    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(128)).unwrap();
    let mut rate = |kbps| {
        encoder.set_bitrate(Bitrate::from_kbps(kbps)).unwrap();
        let bytes: usize = (0..100).map(|index| encoder.encode(&tone(index, 330.0)).unwrap().data.len()).sum();
        bytes as u64 * 8 / 1000
    };
    for kbps in [128, 48, 160] {
        let got = rate(kbps);
        assert!((kbps * 60 / 100..=kbps * 120 / 100).contains(&got), "{got} of {kbps} kbit/s");
    }
}

#[test]
fn other_lengths_are_refused() {
    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(128)).unwrap();
    let mut block = tone(0, 440.0);
    block.samples.pop();
    assert!(matches!(encoder.encode(&block), Err(OpusError::WrongLength { got: 959 })));
}
