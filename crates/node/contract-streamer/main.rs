//! A streamer that speaks the contract of `api::streamer` and does nothing else: the agent's tests run it in the place of
//! `kite-streamer`. What it does wrong is said by the file `behaviour` beside its runtime directory.

#![expect(clippy::expect_used, reason = "what goes wrong here fails the test that runs it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use api::streamer::{FromStreamer, StreamStatistics, StreamerSettings, ToStreamer};

#[path = "sys.rs"]
mod sys;

fn send(stream: &mut UnixStream, message: &FromStreamer) {
    let mut line = serde_json::to_vec(message).expect("messages are JSON");
    line.push(b'\n');
    // An agent that is gone is seen by the reader.
    let _gone = stream.write_all(&line);
}

fn ready() -> FromStreamer {
    FromStreamer::Ready { wayland_socket: None, x11_dir: None, pulse_socket: None, port: 50_000 }
}

fn ended(reason: &str) -> FromStreamer {
    FromStreamer::Ended { reason: reason.to_owned(), detail: None }
}

/// A picture of two pixels, or what a streamer that a game has taken over would say.
fn screenshot(settings: &StreamerSettings, behaviour: &str, request: u64) -> FromStreamer {
    let path = settings.runtime_dir.join(format!("screenshot-{request}.png"));
    let picture = b"\x89PNG\r\n\x1a\nand what makes it one".as_slice();
    let path = match behaviour {
        "black" => None,
        "foreign-picture" => Some("/etc/shadow".into()),
        "linked-picture" => {
            std::os::unix::fs::symlink("/etc/shadow", &path).expect("a link can be made");
            Some(path)
        }
        "no-picture" => {
            fs::write(&path, "nothing of the kind").expect("the runtime directory can be written");
            Some(path)
        }
        _ => {
            fs::write(&path, picture).expect("the runtime directory can be written");
            Some(path)
        }
    };
    let detail = path.is_none().then(|| "the picture is black all over".to_owned());
    FromStreamer::Screenshot { request, path, detail }
}

/// Who this is and what it may, for the log that the tests read.
fn report_rights() {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    for line in
        status.lines().filter(|line| ["Uid:", "Groups:", "CapEff:", "CapPrm:"].iter().any(|w| line.starts_with(w)))
    {
        eprintln!("{line}");
    }
    let realtime = Command::new("chrt").args(["-r", "5", "true"]).stdin(Stdio::null()).status();
    eprintln!("realtime {}", realtime.is_ok_and(|status| status.success()));
}

fn main() -> ExitCode {
    let mut stream = sys::control_socket();
    let mut lines = BufReader::new(stream.try_clone().expect("the socket can be duplicated")).lines();
    let first = lines.next().expect("a first line").expect("readable");
    let settings: StreamerSettings = serde_json::from_str(&first).expect("the settings");
    let behaviour = settings.runtime_dir.parent().map(|dir| dir.join("behaviour"));
    let behaviour = behaviour.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    eprintln!("{first}");
    report_rights();
    // What the tests look at: the runtime directory can be written, the user is the instance's.
    fs::write(settings.runtime_dir.join("socket"), "x").expect("the runtime directory can be written");
    match behaviour.as_str() {
        "silent" => std::thread::sleep(Duration::from_secs(600)),
        "dies" => {
            send(&mut stream, &ready());
            return ExitCode::from(7);
        }
        "leaves" => {
            send(&mut stream, &ready());
            send(&mut stream, &ended("player_left"));
            return ExitCode::SUCCESS;
        }
        "no-encoder" => {
            send(&mut stream, &ended("encoder_failed"));
            return ExitCode::FAILURE;
        }
        "garbage" => stream.write_all(b"{\"type\":\"dance\"}\n\xff\xfe\n").expect("the agent reads"),
        "stubborn" => {
            // Through a shell that ends at once: the process that stays is nobody's child any more.
            let orphan = ["-c", "setsid sleep 600 &"];
            Command::new("sh").args(orphan).stdin(Stdio::null()).status().expect("a shell runs");
        }
        _ => {}
    }
    send(&mut stream, &ready());
    if behaviour != "no-frame" {
        std::thread::sleep(Duration::from_millis(50));
        send(&mut stream, &FromStreamer::FirstFrame);
    }
    for line in lines {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line).expect("a message") {
            ToStreamer::Offer { request, sdp } if sdp == "bad" => {
                send(&mut stream, &FromStreamer::OfferRefused { request, detail: "it is bad".to_owned() });
            }
            ToStreamer::Offer { request, sdp } => {
                send(&mut stream, &FromStreamer::Answer { request, sdp: format!("answer to {sdp}") });
                send(&mut stream, &FromStreamer::Player { connected: true });
                let idle_s = if behaviour == "idle" { 100 } else { 1 };
                send(&mut stream, &FromStreamer::Statistics(StreamStatistics { idle_s, ..Default::default() }));
            }
            ToStreamer::GameEnded { reason } | ToStreamer::Stop { reason } => {
                if behaviour == "stubborn" {
                    std::thread::sleep(Duration::from_secs(600));
                }
                fs::write(settings.runtime_dir.join("../last-word"), &reason).ok();
                eprintln!("last word {reason}");
                send(&mut stream, &ended(&reason));
                return ExitCode::SUCCESS;
            }
            ToStreamer::Claimed { connect_timeout_s, resizable } => {
                let said = format!("{connect_timeout_s} {resizable}");
                fs::write(settings.runtime_dir.join("claimed"), said).expect("the claim is noted");
                send(&mut stream, &FromStreamer::FirstFrame);
            }
            ToStreamer::Screenshot { request } => {
                send(&mut stream, &screenshot(&settings, &behaviour, request));
            }
        }
    }
    ExitCode::SUCCESS
}
