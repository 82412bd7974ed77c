//! What the library and its helper say to each other: one request with descriptors, then a JSON value a line.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::settings::{Identity, Limits, Log, Network, Runtime, Sockets, Syscalls};
use crate::usage::Usage;

/// Longest request or line. Commands and environments are the large part; Linux itself ends them at 2 MiB.
const MAX_BYTES: usize = 4 << 20;

/// Most descriptors that go with a request.
const MAX_DESCRIPTORS: usize = 4;

/// How a limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// A version 2 control group.
    CgroupV2,
    /// A version 1 control group.
    CgroupV1,
    /// Only a resource limit of each process (`setrlimit`), which several processes can add up to exceed.
    ProcessLimit,
    /// A look every few seconds.
    Watched,
    /// Not at all: the machine offers nothing.
    Nothing,
}

/// How each limit of a running game is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// Memory.
    pub memory: Mechanism,
    /// Processor time.
    pub cpu: Mechanism,
    /// Number of processes.
    pub processes: Mechanism,
    /// Bytes on disk.
    pub disk: Mechanism,
    /// True when the game can also change the files that its package holds (in its layer): with an id-mapped mount, or
    /// because it owns them.
    pub package_owned: bool,
}

/// How a game ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this status; 0 is success.
    Code(i32),
    /// By this signal; also when it was stopped and had to be killed (9).
    Signal(i32),
    /// The kernel killed it because it was over its memory limit.
    OutOfMemory,
    /// It was ended because it was over its disk limit.
    DiskFull,
    /// The helper itself was killed, and the game with it: nothing is known of how it ended.
    Lost,
}

/// Everything about the world, once, with the descriptors that the flags name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) command: Vec<OsString>,
    pub(crate) working_dir: PathBuf,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) package: Option<PathBuf>,
    pub(crate) layer_dir: Option<PathBuf>,
    pub(crate) home_dir: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) sockets: Sockets,
    pub(crate) input: Input,
    pub(crate) gpu: bool,
    pub(crate) network: Network,
    pub(crate) limits: Limits,
    pub(crate) identity: Identity,
    pub(crate) log: Option<Log>,
    pub(crate) syscalls: Syscalls,
}

/// The game's `/dev/input`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Input {
    None,
    /// The first descriptor is `/dev/fuse`; the second, when there, the user namespace that it was opened in.
    Fuse {
        user_namespace: bool,
    },
    Directory(PathBuf),
}

/// A script that is run beside the game, by `/bin/sh`, as the game's user, in the game's world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Named in its [`ScriptEnd`].
    pub number: u64,
    /// The script; no NUL in it, and under 128 KiB.
    pub text: String,
    /// It and all that it started is killed after so long.
    pub timeout: Duration,
    /// Most bytes of its output that are kept: its beginning and its end. At least 1024.
    pub max_output_bytes: usize,
}

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptExit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long, and was killed.
    TimedOut,
    /// It was not run, or nothing is known of its end: the text says why.
    Lost(String),
}

/// The end of a script: nothing of it runs any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptEnd {
    /// Of the script.
    pub number: u64,
    /// How it ended.
    pub exit: ScriptExit,
    /// What it wrote, with a line where something was cut.
    pub output: Vec<u8>,
    /// How much was cut.
    pub cut_bytes: u64,
    /// How long it ran.
    pub ran_for: Duration,
}

/// From the library.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHelper {
    Stop {
        grace_ms: u64,
    },
    /// Run a script, unless one runs.
    Run(Script),
    /// End a script: nobody waits for it any more.
    EndScript {
        number: u64,
    },
}

/// From the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromHelper {
    Started {
        /// Of the game, as the host sees it.
        pid: i32,
        /// Of pid 1 inside, as the host sees it.
        init_pid: i32,
        enforced: Enforced,
        group: Group,
    },
    Failed {
        failure: Failure,
    },
    ScriptEnded(ScriptEnd),
    Exited {
        exit: Exit,
        usage: Usage,
    },
}

/// A step that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What was tried, to follow "cannot".
    pub(crate) step: String,
    pub(crate) detail: String,
    /// True when the world stood and only the command could not be started in it.
    pub(crate) command: bool,
}

/// Says what was tried when a call fails.
pub(crate) trait Step<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure { step: what(), detail: error.to_string(), command: false })
    }
}

/// Sends a request and its descriptors.
pub(crate) fn send_request<T: Serialize>(
    socket: &UnixStream,
    value: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the settings are too long"))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    // Four bytes always fit the socket's buffer at once, and the descriptors travel with them.
    let sent = sendmsg(socket, &[IoSlice::new(&length.to_le_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent != 4 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    (&*socket).write_all(&body)
}

/// Receives what [`send_request`] sent.
pub(crate) fn receive_request<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes != 4 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"));
    }
    let mut body = vec![0; length];
    (&*socket).read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, descriptors))
}

/// Sends one line.
pub(crate) fn send_line<T: Serialize>(mut socket: &UnixStream, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Cuts a byte stream into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Takes what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.pending.len() + bytes.len() > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole line's value.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        Ok(Some(serde_json::from_slice(&line)?))
    }
}
