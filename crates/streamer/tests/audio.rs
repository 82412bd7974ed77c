//! The sound of an instance against the real PulseAudio, with `pacat` and `pactl` as the game.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::f64::consts::TAU;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use encode::{FRAMES_PER_PACKET, OpusEncoder};
use media::{Bitrate, PcmBlock};
use pulseaudio::{AsPlaybackSource, Client, protocol};
use streamer::audio::{Audio, AudioError};

struct Running {
    audio: Option<Audio>,
    blocks: Receiver<PcmBlock>,
    ended: Receiver<AudioError>,
    folder: tempfile::TempDir,
}

fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let (send_block, blocks) = sync_channel(10_000);
    let (send_end, ended) = sync_channel(1);
    let give = Box::new(move |block| drop(send_block.try_send(block)));
    let end = Box::new(move |error| drop(send_end.try_send(error)));
    let audio = Some(Audio::start(folder.path(), give, end).unwrap());
    Running { audio, blocks, ended, folder }
}

impl Running {
    fn socket(&self) -> PathBuf {
        self.audio.as_ref().unwrap().socket().to_owned()
    }

    /// A `pacat` that plays raw samples from its standard input.
    fn player(&self) -> Child {
        Command::new("pacat")
            .arg(format!("--server=unix:{}", self.socket().display()))
            .args(["--playback", "--raw", "--rate=48000", "--channels=2", "--format=s16le", "--latency-msec=200"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("pacat of pulseaudio-utils is installed")
    }

    /// What `pactl` answers, standard output and error together, and whether it succeeded.
    fn pactl(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("pactl")
            .arg(format!("--server=unix:{}", self.socket().display()))
            .args(arguments)
            .output()
            .expect("pactl of pulseaudio-utils is installed");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Drops blocks until none has come for this long.
    fn drain(&self, quiet: Duration) {
        while self.blocks.recv_timeout(quiet).is_ok() {}
    }

    fn server_process(&self) -> Option<u32> {
        server_process(self.folder.path())
    }
}

/// The process whose environment says that it is the server of this runtime directory. Zombies have no environment.
fn server_process(runtime_dir: &Path) -> Option<u32> {
    let wanted = format!("PULSE_RUNTIME_PATH={}/pulse\0", runtime_dir.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut servers = ids.filter(|id| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&wanted)
    });
    servers.next()
}

/// CPU time of a process in clock ticks of 10 ms.
fn cpu_ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

fn bytes_of(samples: impl Iterator<Item = i16>) -> Vec<u8> {
    samples.flat_map(|sample| [sample.to_le_bytes(), sample.to_le_bytes()].concat()).collect()
}

fn tone(hertz: f64, seconds: f64) -> Vec<u8> {
    let frames = (seconds * 48_000.0) as usize;
    bytes_of((0..frames).map(|frame| (12_000.0 * (TAU * hertz * frame as f64 / 48_000.0).sin()) as i16))
}

/// Amplitude of one frequency in one channel.
fn amplitude(interleaved: &[i16], channel: usize, hertz: f64) -> f64 {
    let samples = interleaved.iter().skip(channel).step_by(2);
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (index, sample) in samples.enumerate() {
        let phase = TAU * hertz * index as f64 / 48_000.0;
        sine += f64::from(*sample) * phase.sin();
        cosine += f64::from(*sample) * phase.cos();
    }
    2.0 * f64::hypot(sine, cosine) / (interleaved.len() / 2) as f64
}

#[test]
fn a_tone_arrives_whole_and_survives_opus() {
    let running = start();
    let mut player = running.player();
    player.stdin.take().unwrap().write_all(&tone(440.0, 2.0)).unwrap();
    player.wait().unwrap();
    let blocks: Vec<PcmBlock> = running.blocks.try_iter().collect();
    assert!(blocks.iter().all(|block| block.samples.len() == FRAMES_PER_PACKET * 2));
    let loud: Vec<&PcmBlock> =
        blocks.iter().filter(|block| block.samples.iter().any(|sample| sample.unsigned_abs() > 5000)).collect();
    assert!((195..=202).contains(&loud.len()), "2 s of tone in {} blocks", loud.len());
    let samples: Vec<i16> = loud[50..150].iter().flat_map(|block| block.samples.iter().copied()).collect();
    for channel in [0, 1] {
        let (heard, other) = (amplitude(&samples, channel, 440.0), amplitude(&samples, channel, 1000.0));
        assert!((11_800.0..12_200.0).contains(&heard) && other < 50.0, "channel {channel}: {heard} and {other}");
    }

    let mut encoder = OpusEncoder::new(Bitrate::from_kbps(128)).unwrap();
    let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
    let mut decoded = Vec::new();
    for block in &loud[..150] {
        let packet = encoder.encode(block).unwrap();
        assert_eq!(packet.captured, block.captured);
        let mut pcm = [0; FRAMES_PER_PACKET * 2];
        assert_eq!(decoder.decode(&packet.data, &mut pcm, false).unwrap(), FRAMES_PER_PACKET);
        decoded.extend(pcm);
    }
    let heard = amplitude(&decoded[50 * 960..], 0, 440.0);
    assert!((11_400.0..12_600.0).contains(&heard), "{heard} after Opus");
}

#[test]
fn sound_is_captured_within_its_buffers() {
    let running = start();
    let (send, sent) = sync_channel(1000);
    // A game whose mixer is asked for sound when it is needed. A quiet carrier, and a pulse every half second.
    let mut frames = 0;
    let mix = move |buffer: &mut [u8]| {
        let before = frames / 24_000;
        frames += buffer.len() / 4;
        let pulse = frames / 24_000 > before;
        if pulse {
            send.send(Instant::now()).unwrap();
        }
        for sample in buffer.chunks_exact_mut(2) {
            sample.copy_from_slice(&if pulse { 20_000_i16 } else { 1 }.to_le_bytes());
        }
        buffer.len()
    };
    let socket = UnixStream::connect(running.socket()).unwrap();
    let game = Client::new_unix(c"game", socket, Some([0; 256])).unwrap();
    let parameters = protocol::PlaybackStreamParams {
        sample_spec: protocol::SampleSpec { format: protocol::SampleFormat::S16Le, channels: 2, sample_rate: 48_000 },
        channel_map: protocol::ChannelMap::stereo(),
        buffer_attr: protocol::stream::BufferAttr {
            target_length: 1920,
            minimum_request_length: 960,
            ..Default::default()
        },
        flags: protocol::stream::StreamFlags { adjust_latency: true, ..Default::default() },
        ..Default::default()
    };
    let _playing = wait(game.create_playback_stream(parameters, mix.as_playback_source())).unwrap();

    let mut latencies = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut was_loud = false;
    while latencies.len() < 15 {
        assert!(Instant::now() < deadline, "{latencies:?}");
        let block = running.blocks.recv_timeout(Duration::from_secs(5)).unwrap();
        let loud = block.samples.iter().any(|sample| *sample > 10_000);
        if loud && !was_loud {
            // Pulses that were lost, when this machine was too busy to play, are passed over.
            let at = sent.try_iter().last().expect("a pulse is sent before it is heard");
            latencies.push(block.captured - at);
        }
        was_loud = loud;
    }
    latencies.sort();
    println!("capture latency: median {:?}, largest {:?}", latencies[7], latencies[14]);
    // 10 ms of the game's buffer and 10 ms of block, with room for a busy machine.
    assert!(latencies[7] < Duration::from_millis(40), "{latencies:?}");
}

/// Runs a future to its end on this thread.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(Duration::from_millis(100)),
        }
    }
}

#[test]
fn an_idle_game_costs_nothing_and_is_heard_again() {
    let running = start();
    running.drain(Duration::from_secs(2));
    let server = running.server_process().unwrap();
    let before = cpu_ticks(server);
    assert_eq!(running.blocks.recv_timeout(Duration::from_secs(2)).unwrap_err(), RecvTimeoutError::Timeout);
    let ticks = cpu_ticks(server) - before;
    assert!(ticks <= 1, "{ticks} ticks of CPU in two idle seconds");
    let mut player = running.player();
    player.stdin.take().unwrap().write_all(&tone(1000.0, 0.3)).unwrap();
    player.wait().unwrap();
    let loud = running.blocks.try_iter().filter(|block| block.samples.iter().any(|sample| *sample > 5000)).count();
    assert!((28..=32).contains(&loud), "0.3 s of tone in {loud} blocks");
}

#[test]
fn the_game_can_neither_load_modules_nor_end_the_server() {
    let running = start();
    let (loaded, text) = running.pactl(&["load-module", "module-null-sink"]);
    assert!(!loaded, "{text}");
    let (_, text) = running.pactl(&["exit"]);
    assert!(running.pactl(&["info"]).0, "the server is still there after: {text}");
    assert!(running.ended.try_recv().is_err());
}

#[test]
fn a_cut_connection_is_made_again() {
    let running = start();
    kill_all_clients(&running.socket());
    let deadline = Instant::now() + Duration::from_secs(5);
    while !running.pactl(&["list", "short", "source-outputs"]).1.contains("s16le") {
        assert!(Instant::now() < deadline, "recording did not come back");
        thread::sleep(Duration::from_millis(20));
    }
    let mut player = running.player();
    player.stdin.take().unwrap().write_all(&tone(1000.0, 0.3)).unwrap();
    player.wait().unwrap();
    assert!(running.blocks.try_iter().any(|block| block.samples.iter().any(|sample| *sample > 5000)));
    assert!(running.ended.try_recv().is_err());
}

/// What a hostile game may do: tell the server to drop its other clients.
fn kill_all_clients(socket: &Path) {
    let mut stream = BufReader::new(UnixStream::connect(socket).unwrap());
    let authentication = protocol::AuthParams {
        version: protocol::MAX_VERSION,
        supports_shm: false,
        supports_memfd: false,
        cookie: vec![0; 256],
    };
    let version = protocol::MAX_VERSION;
    let mut request = |sequence, command| {
        protocol::write_command_message(stream.get_mut(), sequence, &command, version).unwrap();
    };
    request(0, protocol::Command::Auth(authentication));
    request(1, protocol::Command::SetClientName(protocol::Props::new()));
    for (sequence, client) in (2..).zip(0..8) {
        request(sequence, protocol::Command::KillClient(client));
    }
    // Our own connection is among them: its end, by reset or not, says that all were served.
    while stream.read(&mut [0; 512]).is_ok_and(|length| length > 0) {}
}

#[test]
fn a_killed_server_is_reported_once() {
    let mut running = start();
    let server = running.server_process().unwrap();
    assert!(Command::new("kill").args(["-KILL", &server.to_string()]).status().unwrap().success());
    let error = running.ended.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(matches!(&error, AudioError::Ended { status, .. } if status.contains("9")), "{error}");
    drop(running.audio.take());
    assert_eq!(running.ended.recv_timeout(Duration::from_millis(100)).unwrap_err(), RecvTimeoutError::Disconnected);
    assert!(!running.folder.path().join("pulse").exists());
}

#[test]
fn dropping_leaves_nothing_and_reports_nothing() {
    let mut running = start();
    let server = running.server_process().unwrap();
    let begin = Instant::now();
    drop(running.audio.take());
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(!Path::new(&format!("/proc/{server}")).exists(), "neither running nor a zombie");
    assert_eq!(fs::read_dir(running.folder.path()).unwrap().count(), 0);
    assert_eq!(running.ended.try_recv().unwrap_err(), std::sync::mpsc::TryRecvError::Disconnected);
}

#[test]
fn unusable_directories_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let start = |path: &Path| Audio::start(path, Box::new(|_| {}), Box::new(|_| {})).unwrap_err();
    assert!(matches!(start(&file), AudioError::Directory { .. }));
    let long = folder.path().join("x".repeat(120));
    assert!(matches!(start(&long), AudioError::Connect(_)), "longer than a socket's path may be");
    assert!(server_process(&long).is_none());
}
