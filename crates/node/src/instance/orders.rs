//! What is asked of an instance beside its play: scripts, one after the other, and screenshots.
//!
//! Whoever asked and waits no more is noticed: what was begun for him is ended.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::command::{MAX_PICTURE_BYTES, MAX_TEXT_BYTES};
use api::streamer::ToStreamer;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use sandbox::{Script, ScriptEnd, ScriptExit};
use tokio::sync::oneshot;

use super::Life;

/// Scripts that wait for the one that runs, and screenshots that a streamer owes. The control plane asks for fewer.
const MAX_WAITING: usize = 16;

/// The first bytes of every PNG file.
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Where a script's end goes.
pub(crate) type ScriptTo = oneshot::Sender<ScriptEnd>;

/// Where a screenshot goes: its bytes, or why there is none, in a sentence.
pub(crate) type PictureTo = oneshot::Sender<Result<Vec<u8>, String>>;

/// What was asked and is not done.
#[derive(Debug, Default)]
pub(super) struct Orders {
    number: u64,
    /// The script that runs, and who waits for it; nobody any more when it was given up.
    running: Option<(u64, Option<ScriptTo>)>,
    waiting: VecDeque<(String, Duration, ScriptTo)>,
    pictures: HashMap<u64, PictureTo>,
}

impl Orders {
    /// Ready when nobody waits for the script that runs any more. Safe to cancel.
    pub(super) async fn abandoned(&mut self) {
        match &mut self.running {
            Some((_, Some(reply))) => reply.closed().await,
            Some((_, None)) | None => std::future::pending().await,
        }
    }

    /// Who waits is told that the instance has ended.
    pub(super) fn clear(&mut self) {
        *self = Self { number: self.number, ..Self::default() };
    }
}

impl Life {
    /// Runs a script, after those that were asked for before. Without a game the reply is dropped.
    pub(super) fn script(&mut self, text: String, timeout: Duration, reply: ScriptTo) {
        self.orders.waiting.retain(|(_, _, waiting)| !waiting.is_closed());
        if self.game.is_some() && self.orders.waiting.len() < MAX_WAITING {
            self.orders.waiting.push_back((text, timeout, reply));
            self.next_script();
        }
    }

    fn next_script(&mut self) {
        while self.orders.running.is_none()
            && let Some((text, timeout, reply)) = self.orders.waiting.pop_front()
        {
            let Some(game) = self.game.as_ref().filter(|_| !reply.is_closed()) else { continue };
            self.orders.number += 1;
            let number = self.orders.number;
            match game.run_script(Script { number, text, timeout, max_output_bytes: MAX_TEXT_BYTES }) {
                Ok(()) => self.orders.running = Some((number, Some(reply))),
                // The game is about to be found ended; who waits is told so.
                Err(error) => tracing::warn!(instance = %self.id(), %error, "a script cannot be begun"),
            }
        }
    }

    /// A script ended.
    pub(super) fn script_done(&mut self, end: ScriptEnd) {
        if let Some((_, reply)) = self.orders.running.take_if(|(number, _)| *number == end.number) {
            let (exit, bytes) = (&end.exit, end.output.len());
            tracing::info!(instance = %self.id(), ?exit, bytes, cut_bytes = end.cut_bytes, "script ended");
            // Nobody may be waiting any more, which is fine.
            let _unheard = reply.map(|reply| reply.send(end));
        }
        self.next_script();
    }

    /// Kills the script that runs; the next one begins when it is gone.
    pub(super) fn abandon_script(&mut self) {
        if let (Some((number, reply)), Some(game)) = (&mut self.orders.running, &self.game) {
            *reply = None;
            game.end_script(*number);
        }
    }

    /// Asks the streamer for a picture.
    pub(super) async fn screenshot(&mut self, reply: PictureTo) {
        self.orders.pictures.retain(|_, waiting| !waiting.is_closed());
        if self.orders.pictures.len() >= MAX_WAITING {
            let _unheard = reply.send(Err("Too many screenshots are waiting.".to_owned()));
            return;
        }
        self.next_request += 1;
        let request = self.next_request;
        if let Some(streamer) = &mut self.streamer
            && streamer.send(&ToStreamer::Screenshot { request }).await
        {
            self.orders.pictures.insert(request, reply);
        }
    }

    /// The streamer made a picture, or did not.
    pub(super) fn pictured(&mut self, request: u64, path: Option<PathBuf>, detail: Option<String>) {
        let Some(reply) = self.orders.pictures.remove(&request) else { return };
        let path = path.ok_or_else(|| detail.unwrap_or_else(|| "it gave no reason".to_owned()));
        let (place, uid) = (self.place.clone(), self.instance.uid);
        // Beside everything else: a disk may be slow.
        tokio::task::spawn_blocking(move || {
            let picture = path.and_then(|path| {
                let path = place.own_runtime_path(&path).map_err(|error| error.to_string())?;
                let picture = read_picture(&path, uid).map_err(|error| error.to_string());
                // It goes with the directory at the latest.
                let _kept = std::fs::remove_file(&path);
                picture
            });
            let _unheard = reply.send(picture.map_err(|why| format!("There is no screenshot: {why}.")));
        });
    }
}

/// A file that a streamer wrote, which a game may have taken over: opened without following any link or waiting for anybody, and taken only when it
/// is the streamer's own and begins as a picture does.
fn read_picture(path: &Path, uid: Option<u32>) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    let file = File::from(opened);
    let metadata = file.metadata()?;
    let owner = uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    if !metadata.is_file() || metadata.uid() != owner {
        return Err(io::Error::other("the streamer named a file that is not its own"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_PICTURE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_PICTURE_BYTES || !bytes.starts_with(PNG_SIGNATURE) {
        return Err(io::Error::other("the streamer wrote something else than a picture"));
    }
    Ok(bytes)
}

/// How a script's end is told: the exit status as shells tell it.
pub(crate) fn outcome_of(exit: &ScriptExit) -> api::node::CommandOutcome {
    use api::node::CommandOutcome;
    match exit {
        ScriptExit::Code(code) => CommandOutcome::Done { exit: Some(*code) },
        ScriptExit::Signal(signal) => CommandOutcome::Done { exit: Some(128 + signal) },
        ScriptExit::TimedOut => CommandOutcome::TimedOut {},
        ScriptExit::Lost(why) => CommandOutcome::Failed { why: format!("The script was not run to its end: {why}.") },
    }
}
