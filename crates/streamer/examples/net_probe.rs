//! Streams a moving picture to a browser through the net thread and prints what the browser measured: for watching the network
//! alone, without game, sandbox and control plane.
//!
//! `cargo run -p streamer --example net_probe -- --http 8090`, then open `http://127.0.0.1:8090/?seconds=20`.
//! With `--advertise-port N` the browser is sent to a proxy (see the crate `impair`). It ends after the first report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a tool for developers")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use encode::{OpusEncoder, VideoSettings};
use media::{Bitrate, Frame, FrameRate, PcmBlock, Picture, PicturePool, Size, VideoCodec};
use streamer::net::{Net, NetEvent, NetHandle, NetSettings, NetSink};
use transport::{BitrateLimits, Channel, PeerEvent};

const PAGE: &str = include_str!("net_probe.html");

#[derive(Default)]
struct Shared {
    key: AtomicBool,
    target: AtomicU64,
    frames: AtomicU64,
    skipped: AtomicU64,
    targets: Mutex<Vec<(f64, u64)>>,
    log: Mutex<Vec<String>>,
}

struct Sink {
    start: Instant,
    shared: Arc<Shared>,
    echo: mpsc::SyncSender<(Channel, Vec<u8>)>,
}

impl NetSink for Sink {
    fn event(&mut self, event: NetEvent) {
        let at = self.start.elapsed().as_secs_f64();
        let NetEvent::Peer { peer, event } = event else { return };
        match event {
            PeerEvent::KeyFrameWanted => self.shared.key.store(true, Ordering::Relaxed),
            PeerEvent::TargetBitrate(target) => {
                self.shared.target.store(target.bps(), Ordering::Relaxed);
                self.shared.targets.lock().unwrap().push((at, target.kbps()));
            }
            PeerEvent::Data { channel, bytes } => drop(self.echo.try_send((channel, bytes))),
            PeerEvent::Statistics(statistics) => eprintln!(
                "{at:6.1} target {:6} estimate {:6} sent {:6} loss {:4.1}% queueing {:3} ms rtt {:?} frames {} skipped {}",
                statistics.target.kbps(),
                statistics.estimate.kbps(),
                statistics.sent.kbps(),
                statistics.loss * 100.0,
                statistics.queueing.as_millis(),
                statistics.round_trip.map(|rtt| rtt.as_millis()),
                self.shared.frames.load(Ordering::Relaxed),
                self.shared.skipped.load(Ordering::Relaxed),
            ),
            other => {
                eprintln!("{at:6.1} peer {} {other:?}", peer.0);
                self.shared.log.lock().unwrap().push(format!("{at:.1} {other:?}"));
            }
        }
    }
}

fn main() {
    let options = options();
    let number = |name: &str, default: u64| options.get(name).map_or(default, |text| text.parse().unwrap());
    let start = Instant::now();
    let shared = Arc::new(Shared::default());
    let (echo, echoes) = mpsc::sync_channel(256);
    let bitrate = BitrateLimits {
        min: Bitrate::from_kbps(number("min", 300)),
        start: Bitrate::from_kbps(number("start", 8000)),
        max: Bitrate::from_kbps(number("max", 8000)),
    };
    let prefer = match options.get("codec").map(String::as_str) {
        Some("vp8") => vec![VideoCodec::Vp8],
        _ => vec![VideoCodec::H264, VideoCodec::Vp8],
    };
    // Firefox, and Chromium for TCP, do not use loopback addresses: give them the machine's own.
    let advertise = options.get("advertise").map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |text| text.parse().unwrap());
    let settings = NetSettings {
        bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        advertise: vec![advertise],
        ports: number("port", 0) as u16..=number("port", 0) as u16,
        advertise_port: options.get("advertise-port").map(|text| text.parse().unwrap()),
        tcp: true,
        bitrate,
        prefer,
    };
    let net = Net::start(&settings, Box::new(Sink { start, shared: Arc::clone(&shared), echo })).unwrap();
    let handle = net.handle();
    eprintln!("media port {}", handle.port());
    let size = Size::new(number("width", 1280) as u32, number("height", 720) as u32).unwrap();
    let video = (handle.clone(), Arc::clone(&shared), bitrate.start);
    named("video", move || stream_video(&video.0, &video.1, size, video.2, start));
    let audio = handle.clone();
    named("audio", move || stream_audio(&audio));
    let answers = handle.clone();
    named("echo", move || answer_messages(&answers, &echoes, start));
    let only_tcp = options.contains_key("only-tcp");
    let report = serve(number("http", 8090) as u16, &handle, only_tcp);
    let (user, system) = net_thread_cpu();
    let ticks = (user + system) as f64 / 100.0;
    println!(
        "{{\"report\":{report},\"sent_frames\":{},\"skipped\":{},\"net_thread_cpu_s\":{ticks},\"elapsed_s\":{:.1},\"events\":{:?}}}",
        shared.frames.load(Ordering::Relaxed),
        shared.skipped.load(Ordering::Relaxed),
        start.elapsed().as_secs_f64(),
        shared.log.lock().unwrap(),
    );
    drop(net);
}

fn options() -> HashMap<String, String> {
    let mut options = HashMap::new();
    let mut words = std::env::args().skip(1).peekable();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches("--").to_owned();
        let value = words.next_if(|next| !next.starts_with("--")).unwrap_or_default();
        options.insert(name, value);
    }
    options
}

fn named(name: &str, run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name(name.into()).spawn(run).unwrap();
}

fn stream_video(net: &NetHandle, shared: &Shared, size: Size, initial: Bitrate, start: Instant) {
    let pool = PicturePool::default();
    let mut encoder: Option<encode::Encoder> = None;
    let mut next = Instant::now();
    let texture: Vec<u8> = (0u32..4_000_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut number = 0u32;
    loop {
        next += Duration::from_micros(16_667);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let Some(codec) = net.video_codec() else { continue };
        if !net.takes_frame() {
            if net.is_connected() {
                shared.skipped.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        }
        let target = match shared.target.load(Ordering::Relaxed) {
            0 => initial,
            bps => Bitrate::from_bps(bps),
        };
        let encoder = match &mut encoder {
            Some(open) if open.codec() == codec => open,
            slot => {
                let settings = VideoSettings::new(codec, size, FrameRate::FPS_60, target);
                slot.insert(encode::open(&settings).unwrap())
            }
        };
        encoder.set_bitrate(target).unwrap();
        let committed = Instant::now();
        let mut picture = pool.take(size, VideoSettings::matrix_for(codec));
        draw(&mut picture, number, &texture);
        let frame = Frame { picture, committed, captured: Instant::now(), input: None };
        let key = shared.key.swap(false, Ordering::Relaxed);
        let Some(unit) = encoder.encode(&frame, key, Instant::now).unwrap() else { continue };
        if net.video(unit).is_err() {
            shared.key.store(true, Ordering::Relaxed);
        }
        shared.frames.fetch_add(1, Ordering::Relaxed);
        let mut mark = (number as u16).to_be_bytes().to_vec();
        mark.extend((committed.duration_since(start).as_secs_f64() * 1000.0).to_be_bytes());
        if net.send(Channel::Motion, mark).is_err() {
            eprintln!("a mark was dropped");
        }
        number += 1;
    }
}

/// A texture that moves, over it the frame's number in squares.
fn draw(picture: &mut Picture, number: u32, texture: &[u8]) {
    let size = picture.size();
    let (stride, width, height) = (picture.stride_y(), size.width() as usize, size.height() as usize);
    let (y, u, v) = picture.planes_mut();
    for row in 0..height {
        let line = &mut y[row * stride..][..width];
        let from = ((row / 2) * 331 + (number as usize * 3) / 4) % (texture.len() - width);
        // Noise that no motion search finds: a share of every frame is new, as in a game.
        let noise = (row * 7919 + number as usize * 104_729) % (texture.len() - width);
        for (column, pixel) in line.iter_mut().enumerate() {
            *pixel = 48 + texture[from + column / 2] / 2 + texture[noise + column] / 10;
        }
        if row < 16 {
            for (column, pixel) in line.iter_mut().take(512).enumerate() {
                let square = column / 16;
                let bit = number >> (square % 16) & 1 ^ u32::from(square >= 16);
                *pixel = if bit == 1 { 235 } else { 16 };
            }
        }
    }
    u.fill(120);
    v.fill(136);
}

fn stream_audio(net: &NetHandle) {
    let mut opus = OpusEncoder::new(Bitrate::from_kbps(128)).unwrap();
    let (mut next, mut phase) = (Instant::now(), 0.0f32);
    loop {
        next += Duration::from_millis(10);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let mut samples = Vec::with_capacity(960);
        for _ in 0..480 {
            phase = (phase + 440.0 * std::f32::consts::TAU / 48_000.0) % std::f32::consts::TAU;
            let value = (phase.sin() * 8000.0) as i16;
            samples.extend([value, value]);
        }
        let packet = opus.encode(&PcmBlock { samples, captured: Instant::now() }).unwrap();
        if net.audio(packet).is_err() {
            eprintln!("sound was dropped");
        }
    }
}

/// Motion: a ping is answered with our clock. Control: an echo.
fn answer_messages(net: &NetHandle, messages: &mpsc::Receiver<(Channel, Vec<u8>)>, start: Instant) {
    for (channel, mut bytes) in messages {
        if channel == Channel::Motion {
            bytes.extend((start.elapsed().as_secs_f64() * 1000.0).to_be_bytes());
        }
        if net.send(channel, bytes).is_err() {
            eprintln!("an answer was dropped");
        }
    }
}

fn serve(port: u16, net: &NetHandle, only_tcp: bool) -> String {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for stream in listener.incoming().flatten() {
        if let Some(report) = request(stream, net, only_tcp) {
            return report;
        }
    }
    String::new()
}

fn request(stream: TcpStream, net: &NetHandle, only_tcp: bool) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let mut stream = reader.into_inner();
    let mut reply = |status: &str, kind: &str, text: &str| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())).ok()
    };
    match line.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["POST", "/whep"] => {
            let (sender, receiver) = mpsc::sync_channel(1);
            net.offer(body, move |answer| drop(sender.send(answer))).unwrap();
            match receiver.recv().unwrap() {
                Ok((_, answer)) => {
                    let keep = |line: &&str| !(only_tcp && line.starts_with("a=candidate") && line.contains(" udp "));
                    let answer: String = answer.lines().filter(keep).map(|line| format!("{line}\r\n")).collect();
                    reply("201 Created", "application/sdp", &answer)?;
                }
                Err(error) => reply("400 Bad Request", "text/plain", &error.to_string())?,
            }
            None
        }
        ["POST", "/report"] => {
            reply("204 No Content", "text/plain", "")?;
            Some(body)
        }
        ["GET", path] if path == "/" || path.starts_with("/?") => {
            reply("200 OK", "text/html", PAGE)?;
            None
        }
        _ => {
            reply("404 Not Found", "text/plain", "")?;
            None
        }
    }
}

/// User and system time of the net thread in hundredths of a second.
fn net_thread_cpu() -> (u64, u64) {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        if stat.contains("(net)") {
            let rest: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            return (rest[11].parse().unwrap_or(0), rest[12].parse().unwrap_or(0));
        }
    }
    (0, 0)
}
