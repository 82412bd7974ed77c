//! Which encoders to try, and the options of each: pure decisions, with their reasons.

use std::ffi::CString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use media::{Bitrate, FrameRate, Size, VideoCodec};

use super::sys::{Config, Input, Rates};
use crate::{Choice, Devices, VideoSettings};

/// One encoder that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// libavcodec's name.
    encoder: &'static str,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// libx264.
    X264,
    /// NVIDIA, through the driver's libraries, which libavcodec loads when it opens the encoder.
    Nvenc,
    /// VA-API on a render node. Newer Intel chips have the low-power entry point alone, others the normal one alone.
    Vaapi { node: PathBuf, low_power: bool },
    /// Intel Quick Sync Video on a render node.
    Qsv { node: PathBuf },
}

/// What it costs to change the bitrate of a running encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adaptation {
    /// Nothing.
    Free,
    /// The encoder starts over with a key frame (NVENC through libavcodec).
    KeyFrame,
    /// The encoder has to be opened again, which is a key frame too.
    Reopen,
}

impl Candidate {
    pub(crate) fn name(&self) -> &str {
        self.encoder
    }

    /// The name with the device, for error messages.
    pub(crate) fn label(&self) -> String {
        match &self.kind {
            Kind::X264 | Kind::Nvenc => self.encoder.to_owned(),
            Kind::Vaapi { node, low_power: false } | Kind::Qsv { node } => {
                format!("{} on {}", self.encoder, node.display())
            }
            Kind::Vaapi { node, low_power: true } => format!("{} (low power) on {}", self.encoder, node.display()),
        }
    }

    pub(crate) fn is_hardware(&self) -> bool {
        !matches!(self.kind, Kind::X264)
    }

    pub(crate) fn adaptation(&self) -> Adaptation {
        match self.kind {
            Kind::X264 => Adaptation::Free,
            Kind::Nvenc => Adaptation::KeyFrame,
            Kind::Vaapi { .. } | Kind::Qsv { .. } => Adaptation::Reopen,
        }
    }
}

/// What to try, best first. Empty when the choice has nothing for this codec on this machine.
///
/// Under [`Choice::Auto`] hardware is tried only where its device nodes exist; a hardware family that is asked for by name
/// is tried in any case, so that the error tells what is missing.
pub(crate) fn candidates(codec: VideoCodec, choice: Choice, devices: &Devices) -> Vec<Candidate> {
    let software = || match codec {
        VideoCodec::H264 => vec![Candidate { encoder: "libx264", kind: Kind::X264 }],
        // VP8 has a room of its own; software HEVC and AV1 take longer than a frame interval.
        VideoCodec::Vp8 | VideoCodec::Hevc | VideoCodec::Av1 => Vec::new(),
    };
    match choice {
        Choice::Software => software(),
        Choice::Nvenc => nvenc(codec),
        Choice::Vaapi => vaapi(codec, &devices.render_nodes_or_default()),
        Choice::Qsv => qsv(codec, &devices.render_nodes_or_default()),
        Choice::Auto => {
            let mut all = Vec::new();
            if devices.nvidia {
                all.extend(nvenc(codec));
            }
            all.extend(vaapi(codec, &devices.render_nodes));
            all.extend(qsv(codec, &devices.render_nodes));
            all.extend(software());
            all
        }
    }
}

fn nvenc(codec: VideoCodec) -> Vec<Candidate> {
    let encoder = match codec {
        VideoCodec::H264 => "h264_nvenc",
        VideoCodec::Hevc => "hevc_nvenc",
        VideoCodec::Av1 => "av1_nvenc",
        VideoCodec::Vp8 => return Vec::new(),
    };
    vec![Candidate { encoder, kind: Kind::Nvenc }]
}

fn vaapi(codec: VideoCodec, nodes: &[PathBuf]) -> Vec<Candidate> {
    let encoder = match codec {
        VideoCodec::H264 => "h264_vaapi",
        VideoCodec::Hevc => "hevc_vaapi",
        VideoCodec::Av1 => "av1_vaapi",
        VideoCodec::Vp8 => "vp8_vaapi",
    };
    let each = |node: &PathBuf| {
        [false, true].map(|low_power| Candidate { encoder, kind: Kind::Vaapi { node: node.clone(), low_power } })
    };
    nodes.iter().flat_map(each).collect()
}

fn qsv(codec: VideoCodec, nodes: &[PathBuf]) -> Vec<Candidate> {
    let encoder = match codec {
        VideoCodec::H264 => "h264_qsv",
        VideoCodec::Hevc => "hevc_qsv",
        VideoCodec::Av1 => "av1_qsv",
        VideoCodec::Vp8 => return Vec::new(),
    };
    nodes.iter().map(|node| Candidate { encoder, kind: Kind::Qsv { node: node.clone() } }).collect()
}

/// Size of the decoder model's buffer in frames at the average rate: the most that one picture can weigh, so the delay
/// that a picture can add on a path whose rate is the bitrate. Too high: a scene change takes that many frame intervals to
/// cross the network. Too low: rate control shies away from the limit and wastes bandwidth, and key frames are blurred.
///
/// Measured with libx264, freedm at 720p60 and 4 Mbit/s: 1 frame used 76 % of the bandwidth and gave 34.8 dB; 1.5 used 97 %
/// and gave 35.5 dB with no picture above 1.4 frames; 2 gained 0.1 dB with pictures of 1.7 frames. The first key frame,
/// which is the blurred one, has 29.5, 30.7 and 32.0 dB, and 35 dB are reached within 10 frames in all three.
const BUFFER_FRAMES: f64 = 1.5;

/// Rate control for this bitrate: no picture above [`BUFFER_FRAMES`], no spending of what earlier pictures saved.
pub(super) fn rates(bitrate: Bitrate, frame_rate: FrameRate) -> Rates {
    let average = i64::try_from(bitrate.bps()).unwrap_or(i64::MAX);
    let buffer = bitrate.bps() as f64 / f64::from(frame_rate.get()) * BUFFER_FRAMES;
    Rates { average, peak: average, buffer: buffer as i32 }
}

/// Threads (and with them slices) of software encoding, when the settings leave it open.
///
/// More slices shorten the time to encode and cost bits and CPU. Up to 720p one thread stays well inside a frame interval.
pub(crate) fn threads_for(size: Size, processors: usize) -> usize {
    let wanted = if size.pixels() <= Size::HD.pixels() {
        1
    } else if size.pixels() <= Size::FULL_HD.pixels() {
        2
    } else {
        4
    };
    wanted.min(processors).max(1)
}

/// Processors that this process may use.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Everything that libavcodec is told about the candidate.
pub(super) fn config(candidate: &Candidate, settings: &VideoSettings, bitrate: Bitrate) -> Config {
    let (input, options) = match &candidate.kind {
        Kind::X264 => (Input::Memory, x264_options(settings)),
        Kind::Nvenc => (Input::Memory, nvenc_options(settings.codec)),
        Kind::Vaapi { node, low_power } => (Input::Vaapi(c_path(node)), vaapi_options(settings.codec, *low_power)),
        Kind::Qsv { node } => (Input::Qsv(c_path(node)), qsv_options(settings.codec)),
    };
    Config {
        encoder: CString::new(candidate.encoder).unwrap_or_default(),
        input,
        size: settings.size,
        frames_per_second: i32::from(settings.frame_rate.get()),
        matrix: settings.matrix,
        rates: rates(bitrate, settings.frame_rate),
        options,
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn text(options: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// x264's constant-rate factor: the quality at which it stops spending. Too low spends the whole bitrate on noise that
/// nobody sees and never comes to rest; too high leaves still text soft. The rate itself is held by the decoder model's
/// buffer: x264's average-bitrate mode used 74 % of the bandwidth with a buffer this small, the capped factor 97 %.
/// A still picture ends at 48 dB and 12 bytes a frame with 21; with 18 it still took 1800 bytes a frame after 6 seconds.
const X264_QUALITY: &str = "21";

/// Beyond the preset. Figures of freedm at 720p and 4 Mbit/s, CPU a frame:
/// - Deblocking: 0.4 dB for 0.8 ms. In comparison superfast: twice the CPU of ultrafast for no more at this latency, and CABAC:
///   0.5 dB for 2 ms, but it is not baseline.
/// - `qpstep`: with the default of 4, rate control cannot lower the quantiser from row to row as fast as the buffer
///   allows; still pictures then stayed at 35 dB for ever instead of reaching 48.
/// - `qpmax`: above 51 is x264's emergency mode, which threw away the first picture of a busy scene (18 dB instead of 25).
const X264_PARAMETERS: &str = "no-deblock=0:deblock=0,0:qpstep=20:qpmax=51";

fn x264_options(settings: &VideoSettings) -> Vec<(&'static str, String)> {
    let mut options = text(&[
        ("preset", "ultrafast"),
        ("x264-params", X264_PARAMETERS),
        ("crf", X264_QUALITY),
        ("tune", "zerolatency"),
        // What browsers negotiate as 42e01f. One reference, no B pictures, CAVLC.
        ("profile", "baseline"),
        // Key frames only on request: a loss is repaired by retransmission, and a periodic key frame is a periodic stutter.
        ("g", "2147483647"),
        ("forced-idr", "1"),
        ("bf", "0"),
    ]);
    options.push(("threads", settings.thread_count().to_string()));
    options
}

fn nvenc_options(codec: VideoCodec) -> Vec<(&'static str, String)> {
    let mut options = text(&[
        ("preset", "p2"),
        ("tune", "ull"),
        ("rc", "cbr"),
        ("zerolatency", "1"),
        ("delay", "0"),
        ("forced-idr", "1"),
        ("b_ref_mode", "disabled"),
        ("g", "2147483647"),
        ("bf", "0"),
    ]);
    if codec == VideoCodec::H264 {
        options.extend(text(&[("profile", "baseline"), ("coder", "cavlc")]));
    }
    options
}

fn vaapi_options(codec: VideoCodec, low_power: bool) -> Vec<(&'static str, String)> {
    let mut options = text(&[
        ("rc_mode", "CBR"),
        ("async_depth", "1"),
        ("bf", "0"),
        // The parameter is 16 bits wide in some drivers.
        ("g", "32767"),
        ("low_power", if low_power { "1" } else { "0" }),
    ]);
    if codec == VideoCodec::H264 {
        options.extend(text(&[("profile", "constrained_baseline"), ("coder", "cavlc"), ("sei", "0")]));
    }
    options
}

fn qsv_options(codec: VideoCodec) -> Vec<(&'static str, String)> {
    let mut options = text(&[
        ("preset", "veryfast"),
        ("async_depth", "1"),
        ("low_delay_brc", "1"),
        ("forced_idr", "1"),
        ("look_ahead", "0"),
        ("bf", "0"),
        // 65535 is the library's word for "never".
        ("g", "65535"),
    ]);
    if codec == VideoCodec::H264 {
        options.extend(text(&[("profile", "baseline"), ("cavlc", "1"), ("recovery_point_sei", "0")]));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(nvidia: bool, nodes: &[&str]) -> Devices {
        Devices { nvidia, render_nodes: nodes.iter().map(PathBuf::from).collect() }
    }

    fn check(codec: VideoCodec, choice: Choice, devices: &Devices, expected: &[&str]) {
        let labels: Vec<String> = candidates(codec, choice, devices).iter().map(Candidate::label).collect();
        assert_eq!(labels, expected, "{codec:?} {choice:?} {devices:?}");
    }

    #[test]
    fn candidates_follow_the_machine_and_the_choice() {
        let none = devices(false, &[]);
        let both = devices(true, &["/dev/dri/renderD128"]);
        check(VideoCodec::H264, Choice::Auto, &none, &["libx264"]);
        check(
            VideoCodec::H264,
            Choice::Auto,
            &both,
            &[
                "h264_nvenc",
                "h264_vaapi on /dev/dri/renderD128",
                "h264_vaapi (low power) on /dev/dri/renderD128",
                "h264_qsv on /dev/dri/renderD128",
                "libx264",
            ],
        );
        check(VideoCodec::H264, Choice::Software, &both, &["libx264"]);
        check(VideoCodec::H264, Choice::Nvenc, &none, &["h264_nvenc"]);
        check(VideoCodec::H264, Choice::Qsv, &none, &["h264_qsv on /dev/dri/renderD128"]);
        check(VideoCodec::Av1, Choice::Auto, &none, &[]);
        check(VideoCodec::Vp8, Choice::Nvenc, &both, &[]);
    }

    #[test]
    fn buffer_is_a_frame_and_a_half() {
        let rates = rates(Bitrate::from_kbps(6000), FrameRate::FPS_60);
        assert_eq!(rates, Rates { average: 6_000_000, peak: 6_000_000, buffer: 150_000 });
    }

    #[test]
    fn threads_grow_with_the_picture_within_the_machine() {
        assert_eq!(threads_for(Size::HD, 8), 1);
        assert_eq!(threads_for(Size::FULL_HD, 8), 2);
        assert_eq!(threads_for(Size::FULL_HD, 1), 1);
    }
}
