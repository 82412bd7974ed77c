//! Commands that the control plane wants done on this node: each begun at most once, whatever is repeated and whoever restarts.
//!
//! Before a command is begun its id is written to the disk: `DATA/commands/ID`. An agent that finds it there does not begin it again, and says so.
//! What a command brought is in memory, until it is desired no more.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::command::{CommandOutput, MAX_TEXT_BYTES, OutputKind};
use api::id::{CommandId, InstanceId};
use api::node::{
    CommandOutcome, CommandProgress, CommandTask, DesiredCommand, MAX_NODE_COMMANDS, ObservedCommand, PART_BYTES, Part,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::instance::{Command, outcome_of};
use crate::place;
use crate::settings::NodeSettings;

/// How long a begun command's id is kept. Commands are closed by the control plane within minutes and not wished after that; longer only
/// keeps empty files.
const REMEMBER: Duration = Duration::from_secs(24 * 3600);

/// How long a streamer may take for a screenshot: it takes a tenth of a second.
const PICTURE_LIMIT: Duration = Duration::from_secs(15);

/// The way to an instance; `None` when there is none of the command's epoch.
pub(crate) type Way = Option<mpsc::Sender<Command>>;

/// The way, and what is closed when it has been gone.
type OwnWay = Option<(mpsc::Sender<Command>, oneshot::Sender<()>)>;

/// Whose turn it is among the commands of an instance.
#[derive(Debug)]
struct Turn {
    /// Closed when the one before has been handed over.
    before: Option<oneshot::Receiver<()>>,
    handing_over: oneshot::Sender<()>,
}

/// A command as this node knows it.
#[derive(Debug)]
struct Entry {
    instance: InstanceId,
    /// Closed when the instance has it. The next one of the same instance waits for that: they are begun in their order.
    handed_over: Option<oneshot::Receiver<()>>,
    progress: watch::Receiver<Progress>,
    /// Ended when the command is not desired any more, and with it what waits for it.
    work: JoinHandle<()>,
}

/// How far a command is, with what it brought.
#[derive(Clone, Debug)]
struct Progress {
    shown: CommandProgress,
    output: Arc<Vec<u8>>,
}

/// What a command came to.
#[derive(Debug)]
struct Done {
    outcome: CommandOutcome,
    output: Option<(OutputKind, Vec<u8>, u64)>,
}

/// All commands.
#[derive(Debug)]
pub(crate) struct Commands {
    settings: Arc<NodeSettings>,
    entries: BTreeMap<CommandId, Entry>,
    changed: Arc<Notify>,
}

/// Where begun commands are noted.
fn notes_dir(settings: &NodeSettings) -> PathBuf {
    settings.data_dir.join("commands")
}

/// Makes the directory of notes, and removes those that are too old to be of any use.
pub(crate) fn open_notes(settings: &NodeSettings) -> io::Result<()> {
    let dir = notes_dir(settings);
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    for entry in fs::read_dir(&dir)?.flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > REMEMBER) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Notes that a command is about to be begun; false when it was before.
fn note(settings: &NodeSettings, command: CommandId) -> io::Result<bool> {
    let dir = notes_dir(settings);
    match File::create_new(dir.join(command.to_string())) {
        Ok(file) => {
            // Also after a loss of power: the name is in the directory.
            file.sync_all()?;
            File::open(&dir)?.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

impl Commands {
    /// None yet. `changed` is told of each change.
    pub(crate) fn new(settings: Arc<NodeSettings>, changed: Arc<Notify>) -> Self {
        Self { settings, entries: BTreeMap::new(), changed }
    }

    /// Begins what is new, and ends and forgets what is desired no more. Idempotent.
    pub(crate) fn want(&mut self, desired: Vec<DesiredCommand>, way: impl Fn(InstanceId, u32) -> Way) {
        self.entries.retain(|id, entry| {
            let is_wanted = desired.iter().any(|one| one.command == *id);
            if !is_wanted {
                entry.work.abort();
            }
            is_wanted
        });
        for one in desired {
            if self.entries.contains_key(&one.command) {
                continue;
            }
            if self.entries.len() >= MAX_NODE_COMMANDS {
                tracing::warn!(command = %one.command, "more commands are desired than may be");
                return;
            }
            let way = way(one.instance, one.epoch);
            // Ids sort by creation.
            let before = self.entries.values_mut().rev().find(|entry| entry.instance == one.instance);
            let before = before.and_then(|entry| entry.handed_over.take());
            let (handing_over, handed_over) = oneshot::channel();
            let turn = Turn { before, handing_over };
            let shown = CommandProgress::Running {};
            let (progress, seen) = watch::channel(Progress { shown, output: Arc::default() });
            let (settings, changed) = (Arc::clone(&self.settings), Arc::clone(&self.changed));
            let (id, instance) = (one.command, one.instance);
            let work = tokio::spawn(async move {
                let began = Instant::now();
                let done = carry_out(settings, one, way, turn).await;
                progress.send_replace(ended(done, began.elapsed()));
                changed.notify_one();
            });
            self.entries.insert(id, Entry { instance, handed_over: Some(handed_over), progress: seen, work });
        }
    }

    /// For the report.
    pub(crate) fn observed(&self) -> Vec<ObservedCommand> {
        let observed = |(id, entry): (&CommandId, &Entry)| ObservedCommand {
            command: *id,
            progress: entry.progress.borrow().shown.clone(),
        };
        self.entries.iter().map(observed).collect()
    }

    /// A part of an output; `None` when there is no such output.
    pub(crate) fn part(&self, command: CommandId, offset: u64) -> Option<Part> {
        let output = Arc::clone(&self.entries.get(&command)?.progress.borrow().output);
        let from = usize::try_from(offset).ok().filter(|from| *from < output.len())?;
        let to = output.len().min(from + PART_BYTES);
        Some(Part(output.get(from..to)?.to_vec()))
    }
}

fn ended(done: Done, took: Duration) -> Progress {
    let (output, bytes) = match done.output {
        Some((kind, bytes, cut_bytes)) if !bytes.is_empty() => {
            (Some(CommandOutput { kind, bytes: bytes.len() as u64, cut_bytes }), bytes)
        }
        Some(_) | None => (None, Vec::new()),
    };
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Progress { shown: CommandProgress::Ended { outcome: done.outcome, output, duration_ms }, output: Arc::new(bytes) }
}

fn failed(why: impl Into<String>) -> Done {
    Done { outcome: CommandOutcome::Failed { why: why.into() }, output: None }
}

async fn carry_out(settings: Arc<NodeSettings>, desired: DesiredCommand, way: Way, turn: Turn) -> Done {
    let (id, for_note) = (desired.command, Arc::clone(&settings));
    match tokio::task::spawn_blocking(move || note(&for_note, id)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            return failed("The node's agent was started again while it worked on it. It is not begun a second time.");
        }
        Ok(Err(error)) => return failed(format!("The node cannot note that it begins: {error}.")),
        Err(error) => return failed(format!("The node cannot note that it begins: {error}.")),
    }
    if let Some(before) = turn.before {
        // An error as well says that nothing comes any more.
        let _closed = before.await;
    }
    let way = way.map(|way| (way, turn.handing_over));
    tracing::info!(command = %id, instance = %desired.instance, "command begun");
    match desired.task {
        CommandTask::Exec { script, timeout_s } => exec(script, timeout_s, way).await,
        CommandTask::Screenshot {} => screenshot(way).await,
        CommandTask::Logs { kib } => {
            let read = tokio::task::spawn_blocking(move || logs(&settings, desired.instance, kib)).await;
            match read {
                Ok(Some((text, cut))) => {
                    let outcome = CommandOutcome::Done { exit: None };
                    Done { outcome, output: Some((OutputKind::Text, text, cut)) }
                }
                Ok(None) => failed("The node has no logs of it, or not any more."),
                Err(error) => failed(format!("The logs cannot be read: {error}.")),
            }
        }
    }
}

const NO_GAME: &str = "The game does not run on the node, or ended before this was done.";

/// Hands a command over to the instance; false when there is none.
async fn hand_over(way: OwnWay, command: Command) -> bool {
    match way {
        Some((way, _handing_over)) => way.send(command).await.is_ok(),
        None => false,
    }
}

async fn exec(text: String, timeout_s: u32, way: OwnWay) -> Done {
    let (reply, end) = oneshot::channel();
    let timeout = Duration::from_secs(u64::from(timeout_s));
    if !hand_over(way, Command::Script { text, timeout, reply }).await {
        return failed(NO_GAME);
    }
    match end.await {
        Ok(end) => Done { outcome: outcome_of(&end.exit), output: Some((OutputKind::Text, end.output, end.cut_bytes)) },
        Err(_dropped) => failed(NO_GAME),
    }
}

async fn screenshot(way: OwnWay) -> Done {
    let (reply, picture) = oneshot::channel();
    if !hand_over(way, Command::Screenshot { reply }).await {
        return failed(NO_GAME);
    }
    match tokio::time::timeout(PICTURE_LIMIT, picture).await {
        Ok(Ok(Ok(bytes))) => {
            Done { outcome: CommandOutcome::Done { exit: None }, output: Some((OutputKind::Png, bytes, 0)) }
        }
        Ok(Ok(Err(why))) => failed(why),
        Ok(Err(_dropped)) => failed(NO_GAME),
        Err(_elapsed) => failed("The streamer made no picture in time."),
    }
}

/// The newest output of the game and of its streamer, each under a heading; how much of their files is not in it. `None` without any.
fn logs(settings: &NodeSettings, instance: InstanceId, kib: u32) -> Option<(Vec<u8>, u64)> {
    let dir = place::logs_dir(settings).join(instance.to_string());
    if !dir.is_dir() {
        return None;
    }
    let most = (kib as usize * 1024).min(MAX_TEXT_BYTES / 2 - 200);
    let (mut text, mut cut) = (Vec::new(), 0);
    for (heading, files) in [("game", ["game.log.1", "game.log"].as_slice()), ("streamer", ["streamer.log"].as_slice())]
    {
        let paths: Vec<PathBuf> = files.iter().map(|name| dir.join(name)).collect();
        let (tail, left_out) = newest(&paths, most);
        let mark = if left_out > 0 {
            format!(", the newest {} of {} bytes", tail.len(), tail.len() as u64 + left_out)
        } else {
            String::new()
        };
        text.extend(format!("== {heading}{mark} ==\n").into_bytes());
        if !tail.is_empty() && !tail.ends_with(b"\n") {
            text.extend(tail);
            text.push(b'\n');
        } else {
            text.extend(tail);
        }
        cut += left_out;
    }
    Some((text, cut))
}

/// The last bytes of files that follow each other, and how many came before them. What cannot be read is as if it were not there: it may just be
/// being renamed.
fn newest(paths: &[PathBuf], most: usize) -> (Vec<u8>, u64) {
    let (mut tail, mut left_out) = (Vec::new(), 0);
    for path in paths.iter().rev() {
        let (bytes, before) = end_of(path, most - tail.len()).unwrap_or_default();
        left_out += before;
        tail.splice(0..0, bytes);
    }
    (tail, left_out)
}

fn end_of(path: &Path, most: usize) -> io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(most as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok((bytes, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_two_files_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("log.1"), dir.path().join("log")];
        let check = |most, expected: &str, left_out| {
            assert_eq!(newest(&paths, most), (expected.as_bytes().to_vec(), left_out), "{most}");
        };
        check(10, "", 0);
        fs::write(&paths[1], "world").unwrap();
        check(10, "world", 0);
        fs::write(&paths[0], "hello ").unwrap();
        check(100, "hello world", 0);
        check(7, "o world", 4);
        check(5, "world", 6);
        check(3, "rld", 8);
    }
}
