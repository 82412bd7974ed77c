//! How long encoding a moving texture takes: milliseconds a frame (median and 99th percentile), CPU milliseconds a frame,
//! and the rate that came out, at 720p and 1080p with one and two threads. The last line is one JSON object.
//!
//! Arguments: `[frames]`, 300 when absent.
#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

#[path = "../tests/scene/mod.rs"]
mod scene;

use std::error::Error;
use std::fs;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use encode::{Choice, VideoSettings};
use media::{Bitrate, Frame, FrameRate, Size, VideoCodec};

use scene::Scene;

/// Different pictures of the scene, shown forth and back so that drawing them is not part of the measurement.
const PICTURES: usize = 24;

/// Of the kernel's clock ticks, in which /proc counts CPU time.
const TICK: Duration = Duration::from_millis(10);

struct Row {
    codec: &'static str,
    size: Size,
    threads: usize,
    median_ms: f64,
    p99_ms: f64,
    cpu_ms: f64,
    kbps: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let frames: usize = std::env::args().nth(1).map_or(Ok(300), |text| text.parse())?;
    let mut rows = Vec::new();
    println!("codec size       threads  median   p99   CPU ms  kbit/s");
    for (codec, name) in [(VideoCodec::H264, "h264"), (VideoCodec::Vp8, "vp8")] {
        for (size, kbps) in [(Size::HD, 8000), (Size::FULL_HD, 16_000)] {
            for threads in [1, 2] {
                let row = measure(codec, name, size, kbps, threads, frames)?;
                println!(
                    "{:5} {:10} {:7}  {:6.2} {:6.2} {:7.2} {:7}",
                    row.codec,
                    row.size.to_string(),
                    row.threads,
                    row.median_ms,
                    row.p99_ms,
                    row.cpu_ms,
                    row.kbps
                );
                rows.push(row);
            }
        }
    }
    println!("{}", json(&rows)?);
    Ok(())
}

fn measure(
    codec: VideoCodec,
    name: &'static str,
    size: Size,
    kbps: u64,
    threads: usize,
    frames: usize,
) -> Result<Row, Box<dyn Error>> {
    let mut settings = VideoSettings::new(codec, size, FrameRate::FPS_60, Bitrate::from_kbps(kbps));
    settings.choice = Choice::Software;
    settings.threads = NonZeroUsize::new(threads);
    let scene = Scene::new(size, settings.matrix);
    let pictures: Vec<Frame> = (0..PICTURES as u32).map(|position| scene.frame(position)).collect();
    let mut encoder = encode::open(&settings)?;
    let (mut times, mut bytes) = (Vec::with_capacity(frames), 0);
    let cpu = cpu_time()?;
    for index in 0..frames {
        let step = index % (2 * PICTURES - 2);
        let frame = &pictures[step.min(2 * PICTURES - 2 - step)];
        let start = Instant::now();
        bytes += encoder.encode(frame, false, Instant::now)?.map_or(0, |unit| unit.data.len());
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let cpu_ms = (cpu_time()? - cpu).as_secs_f64() * 1000.0 / frames as f64;
    times.sort_by(f64::total_cmp);
    let kbps = bytes as u64 * 8 * 60 / frames as u64 / 1000;
    let (median_ms, p99_ms) = (times[frames / 2], times[frames * 99 / 100]);
    Ok(Row { codec: name, size, threads, median_ms, p99_ms, cpu_ms, kbps })
}

/// CPU time of this process so far.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the program's name in parentheses come the fields from the third on; user and system time are 14 and 15.
    let fields = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

fn json(rows: &[Row]) -> Result<String, Box<dyn Error>> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("0").to_owned();
    let runs: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                r#"{{"codec": "{}", "width": {}, "height": {}, "threads": {}, "median_ms": {:.2}, "p99_ms": {:.2}, "cpu_ms": {:.2}, "kbit_s": {}}}"#,
                row.codec, row.size.width(), row.size.height(), row.threads, row.median_ms, row.p99_ms, row.cpu_ms, row.kbps
            )
        })
        .collect();
    Ok(format!(r#"{{"load": {load}, "runs": [{}]}}"#, runs.join(", ")))
}
