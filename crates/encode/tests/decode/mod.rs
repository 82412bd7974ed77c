//! Decoding with the `ffmpeg` program, which is needed to run these tests (Debian: ffmpeg).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use media::{EncodedUnit, Frame, Size, VideoCodec};

/// The luma planes of all pictures that these units decode to.
pub(crate) fn decode(units: &[EncodedUnit], size: Size) -> Vec<Vec<u8>> {
    let (_folder, stream) = write(units, size);
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(&stream)
        .args(["-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-vf", "extractplanes=y", "-"])
        .output()
        .expect("the ffmpeg program is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    output.stdout.chunks(size.pixels() as usize).map(<[u8]>::to_vec).collect()
}

/// What ffprobe says of the stream, `key=value` lines.
pub(crate) fn probe(units: &[EncodedUnit], size: Size) -> String {
    let (_folder, stream) = write(units, size);
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_streams"])
        .arg(&stream)
        .output()
        .expect("the ffprobe program is installed");
    String::from_utf8(output.stdout).unwrap()
}

/// Peak signal-to-noise ratio of a decoded luma plane against the frame, in decibels.
pub(crate) fn psnr(frame: &Frame, decoded: &[u8]) -> f64 {
    let size = frame.picture.size();
    let (width, stride) = (size.width() as usize, frame.picture.stride_y());
    let rows = frame.picture.planes().0.chunks(stride).zip(decoded.chunks(width));
    let error: u64 = rows
        .flat_map(|(want, got)| want[..width].iter().zip(got))
        .map(|(want, got)| u64::from(want.abs_diff(*got)).pow(2))
        .sum();
    let mean = error as f64 / size.pixels() as f64;
    10.0 * (255.0_f64.powi(2) / mean.max(1e-9)).log10()
}

fn write(units: &[EncodedUnit], size: Size) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (name, bytes) = match units[0].codec {
        VideoCodec::H264 => ("stream.h264", units.iter().flat_map(|unit| unit.data.clone()).collect()),
        VideoCodec::Vp8 => ("stream.ivf", ivf(units, size)),
        VideoCodec::Hevc | VideoCodec::Av1 => panic!("no software encoder makes these"),
    };
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn ivf(units: &[EncodedUnit], size: Size) -> Vec<u8> {
    let mut file = b"DKIF\0\0\x20\0VP80".to_vec();
    file.extend((size.width() as u16).to_le_bytes());
    file.extend((size.height() as u16).to_le_bytes());
    file.extend(60_u32.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend((units.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    for (index, unit) in units.iter().enumerate() {
        file.extend((unit.data.len() as u32).to_le_bytes());
        file.extend((index as u64).to_le_bytes());
        file.extend(&unit.data);
    }
    file
}
