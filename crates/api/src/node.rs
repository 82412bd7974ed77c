//! The contract between the control plane and a node, level-triggered: the control plane sends all instances that it wants,
//! the node answers all that it has. Either side may restart, repeat or skip a message; the newest one counts.
//!
//! A command is desired until the control plane has what became of it. A node begins each at most once, whatever is repeated and whoever
//! restarts; one that is desired no more is ended and forgotten. Outputs are fetched in parts, beside the reports.
//!
//! Every instance carries the epoch that the control plane gave it; reports of another epoch are refused. [`NodeLink`] is
//! how the messages travel. Here they travel inside of one process ([`in_process`]); crate `link` carries them between
//! machines, over mutual TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::command::CommandOutput;
use crate::content::{ReplicaPolicy, ReplicaState};
use crate::id::{CommandId, ContentId, InstanceId, NodeId};
use crate::manifest::Manifest;
use crate::saves::SaveFailure;
use crate::session::EndReason;
use crate::spec::StreamSpec;
use crate::streamer::StreamStatistics;
use crate::trace::TraceParent;

/// Messages that wait in one direction of the in-process link. Fewer would make a burst of offers wait for each
/// other; more would only hide a side that hangs.
const LINK_DEPTH: usize = 64;

/// Most commands that a node is asked at once: their scripts, and their results on their way, take 2 and 128 MiB at worst.
pub const MAX_NODE_COMMANDS: usize = 16;

/// Bytes of one part of an output. A longer part holds up what comes behind it on the link, a shorter one takes more round trips.
pub const PART_BYTES: usize = 256 * 1024;

/// An instance that shall be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredInstance {
    /// Its id.
    pub instance: InstanceId,
    /// Its epoch. A higher one replaces the instance of a lower one.
    pub epoch: u32,
    /// What is played.
    pub manifest: Box<Manifest>,
    /// Where its files are.
    pub package: PackageSource,
    /// Picture at start.
    pub spec: StreamSpec,
    /// True when the player's window may change the picture's size.
    pub resizable: bool,
    /// The player's save, where the app keeps any and the player is known.
    pub saves: Option<DesiredSaves>,
    /// How long to wait for the first player, in seconds.
    pub connect_timeout_s: u32,
    /// How long to wait for a lost player, in seconds.
    pub reconnect_grace_s: u32,
    /// Set when it shall stop, with what the player is told. One that does not run then is not started but reported as ended.
    pub stop: Option<EndReason>,
    /// The play's trace, where somebody follows it. What came with the start counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// Set while nobody plays it: it waits for somebody. A later wish without this makes it his, with what that says of saves, connection and
    /// trace; a node of an earlier version starts the game at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warmth>,
}

/// How far an instance is started for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Warmth {
    /// Everything stands but the save and the game: of apps that keep saves, because a game reads its save when it starts.
    Prepared,
    /// The game runs and shows its first picture.
    Running,
}

/// What is to be done about a player's save.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredSaves {
    /// The version that the play begins with; `None` at the first play.
    pub restore: Option<ContentId>,
    /// The key of this player's saves of this app. It opens nothing else.
    pub key: [u8; 32],
    /// Bytes that a version may have.
    pub max_bytes: u64,
    /// Files that a version may have.
    pub max_files: u64,
    /// Captures of this instance that are versions now: up to this sequence.
    pub committed: u32,
}

impl std::fmt::Debug for DesiredSaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { restore, committed, .. } = self;
        f.debug_struct("DesiredSaves").field("restore", restore).field("committed", committed).finish_non_exhaustive()
    }
}

/// Why a save was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaveKind {
    /// While the game ran.
    Checkpoint,
    /// After the game had ended.
    Final,
    /// The player brought it, or went back to an older version.
    Chosen,
}

/// A capture of an instance's save that is in the content store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedSave {
    /// Counts up from 1 with every capture of the instance.
    pub sequence: u32,
    /// What was captured.
    pub content: ContentId,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files.
    pub files: u64,
    /// Why it was captured.
    pub kind: SaveKind,
    /// True when nothing had changed for a moment before and while it was read.
    pub settled: bool,
}

/// A command that shall be done, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredCommand {
    /// Its id.
    pub command: CommandId,
    /// On this instance.
    pub instance: InstanceId,
    /// Of this epoch; of any for logs.
    pub epoch: u32,
    /// What is to be done.
    pub task: CommandTask,
}

/// What a node does for a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum CommandTask {
    /// Run a script by `/bin/sh` inside the game's sandbox.
    Exec {
        /// The script.
        script: String,
        /// It is killed after so many seconds.
        timeout_s: u32,
    },
    /// Read the newest output of the game and of its streamer.
    Logs {
        /// KiB of each.
        kib: u32,
    },
    /// A picture of what the game shows.
    Screenshot {},
}

/// A command as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedCommand {
    /// Its id.
    pub command: CommandId,
    /// How far it is.
    pub progress: CommandProgress,
}

/// How far a command is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub enum CommandProgress {
    /// It is being done.
    Running {},
    /// Nothing more is done for it. It is reported until it is desired no more.
    Ended {
        /// What became of it.
        outcome: CommandOutcome,
        /// What it brought, to be fetched.
        output: Option<CommandOutput>,
        /// How long it was at work, in milliseconds.
        duration_ms: u64,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CommandOutcome {
    /// It was done; a script's exit status.
    Done {
        /// 128 and the signal's number when a signal ended it; `None` of what is no script.
        exit: Option<i32>,
    },
    /// It was not done, or not to its end.
    Failed {
        /// Why, in a sentence.
        why: String,
    },
    /// A script took longer than it may, and was killed.
    TimedOut {},
}

/// Where a package's files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum PackageSource {
    /// A directory on the node: for developers, who play what they work on.
    Directory {
        /// Its path.
        dir: PathBuf,
    },
    /// A release, which the node fetches to its site's volume.
    Release {
        /// Its content.
        content: ContentId,
    },
}

/// A release that is wanted on the node's site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredReplica {
    /// Its content.
    pub content: ContentId,
    /// How much.
    pub policy: ReplicaPolicy,
}

/// A release on the node's site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedReplica {
    /// Its content.
    pub content: ContentId,
    /// What it is doing.
    pub state: ReplicaState,
}

/// All instances that shall be on a node. One that is missing is stopped and forgotten.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DesiredInstances {
    /// In no order.
    pub instances: Vec<DesiredInstance>,
    /// Releases that are wanted beside those that instances need. In no order.
    pub replicas: Vec<DesiredReplica>,
    /// Commands, at most [`MAX_NODE_COMMANDS`], the oldest first.
    #[serde(default)]
    pub commands: Vec<DesiredCommand>,
}

/// What an instance is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum InstanceState {
    /// Its release is fetched to the site.
    ContentFetching,
    /// Display, sound and network are being set up.
    StreamerStarting,
    /// Everything stands but the save and the game, which wait for somebody who plays: only of instances that are wished so.
    Prepared,
    /// The streamer is up and takes offers; the game is being started.
    GameStarting,
    /// The game's process runs.
    Running {
        /// True as soon as it has drawn something.
        first_frame: bool,
    },
    /// Being stopped.
    Stopping {
        /// Why.
        reason: EndReason,
    },
    /// Nothing of it is left on the node. It is reported until it is desired no more.
    Ended {
        /// Why.
        reason: EndReason,
        /// For the operator.
        detail: Option<String>,
    },
}

/// The player's connection, as the streamer sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlayerPresence {
    /// Nobody came yet.
    #[default]
    Awaited,
    /// Media flows.
    Connected,
    /// Somebody was there.
    Lost,
}

/// An instance as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservedInstance {
    /// Its id.
    pub instance: InstanceId,
    /// The epoch it was started with.
    pub epoch: u32,
    /// What it is doing.
    pub state: InstanceState,
    /// Its player.
    pub player: PlayerPresence,
    /// The newest capture of its save.
    pub saved: Option<ObservedSave>,
    /// Why the newest attempt to capture it failed; absent when it succeeded.
    #[serde(default)]
    pub save_failure: Option<SaveFailure>,
    /// The newest figures; absent as long as nothing was measured.
    pub statistics: Option<StreamStatistics>,
    /// What it takes of its machine; absent as long as that was not measured, and from nodes of versions that do not measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<InstanceUsage>,
}

/// What an instance took of its machine while it was played: the game, and what shows it. Measured about every five seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceUsage {
    /// Counts up from 1 with every measurement of the instance, so that none is learnt from twice.
    pub sample: u32,
    /// Thousandths of a processor, in the mean since the measurement before.
    pub cpu_milli: u32,
    /// Memory that cannot be taken away from it, in MiB.
    pub memory_mib: u32,
    /// What went out to its player, in kilobits a second.
    pub egress_kbps: u32,
    /// The machine's processors or the player's way had nothing left: it might have taken more.
    #[serde(default)]
    pub is_starved: bool,
}

/// What a node can hold. What it does not state is not limited: nodes of versions that state places and pixels alone do as before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Sessions at once.
    pub sessions: u32,
    /// Pixels a second of all sessions together: the cost of encoding.
    pub pixels_per_second: u64,
    /// Thousandths of a processor of all sessions together. More than the machine has where its peaks are expected not to meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
    /// Memory of all sessions together, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// What goes out to all players together, in kilobits a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_kbps: Option<u32>,
}

/// Why a node takes no new instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum NodeRefusal {
    /// Less disk space is free than a new instance may need.
    DiskFull {
        /// Free MiB.
        free_mb: u64,
        /// Needed MiB.
        needed_mb: u64,
    },
    /// The node is being stopped.
    Stopping,
}

/// A node as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservedNode {
    /// Its id.
    pub node: NodeId,
    /// What it can hold.
    pub capacity: Capacity,
    /// Set when it takes no new instance; running ones go on.
    pub refuses: Option<NodeRefusal>,
    /// All instances that it has.
    pub instances: Vec<ObservedInstance>,
    /// Releases that are on its site, or on their way there.
    pub replicas: Vec<ObservedReplica>,
    /// Commands that are desired, as far as it has heard of them.
    #[serde(default)]
    pub commands: Vec<ObservedCommand>,
    /// Where its witness answers whether its agent lives, as other nodes reach it; `None` when it has none.
    #[serde(default)]
    pub witness: Option<SocketAddr>,
    /// Players' clients can measure the way to it: it answers [`ToNode::Echo`]. False of nodes of versions that cannot, which are never sent one.
    #[serde(default)]
    pub echo: bool,
}

/// What a node found at another one's witness. Only [`ProbeOutcome::Refused`] and [`ProbeOutcome::Silent`] speak against
/// the other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// Its agent greeted: what is broken lies between it and the control plane.
    Alive,
    /// Its host answers that nobody listens there, or somebody else does: the agent is gone, the host is up.
    Refused,
    /// Nothing came in time: the host is down, cut off, or its agent hangs.
    Silent,
    /// The probe could not be made. It says nothing about the other node.
    Unknown,
}

/// From the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToNode {
    /// All that shall be.
    Desired(DesiredInstances),
    /// A player's offer for an instance.
    Offer {
        /// Returned in the answer.
        request: u64,
        /// For this one.
        instance: InstanceId,
        /// Of this epoch.
        epoch: u32,
        /// The offer.
        sdp: String,
    },
    /// A client's offer to measure the way to this node. It is answered within two seconds, as an offer is.
    Echo {
        /// Returned in the answer.
        request: u64,
        /// The offer: a data channel alone.
        sdp: String,
    },
    /// Look whether the agent of another node lives. It is answered within two seconds.
    Probe {
        /// Returned in the answer.
        request: u64,
        /// The other node's witness.
        address: SocketAddr,
    },
    /// Send a part of a command's output.
    Fetch {
        /// Returned in the answer.
        request: u64,
        /// Of this command.
        command: CommandId,
        /// From this byte on, at most [`PART_BYTES`].
        offset: u64,
    },
}

/// To the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromNode {
    /// All that is.
    Observed(ObservedNode),
    /// What became of an offer, to a streamer or to the echo.
    Answer {
        /// Of the offer.
        request: u64,
        /// The SDP answer, or why there is none.
        outcome: Result<String, OfferFailure>,
    },
    /// What a probe found.
    Probed {
        /// Of the probe.
        request: u64,
        /// What it found.
        outcome: ProbeOutcome,
    },
    /// A part of a command's output.
    Part {
        /// Of the fetch.
        request: u64,
        /// The bytes; `None` when there is no such output.
        part: Option<Part>,
    },
}

/// Bytes, in base64 on the link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Part(pub Vec<u8>);

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("bytes", &self.0.len()).finish()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        data_encoding::BASE64.encode(&part.0)
    }
}

impl TryFrom<String> for Part {
    type Error = data_encoding::DecodeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        data_encoding::BASE64.decode(text.as_bytes()).map(Self)
    }
}

/// Why an offer got no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "failure", rename_all = "snake_case")]
pub enum OfferFailure {
    /// The streamer cannot use it. Send a better one.
    #[error("the offer cannot be used: {detail}")]
    Refused {
        /// What was wrong, in a sentence.
        detail: String,
    },
    /// No such instance of that epoch, or its streamer is gone. Create a new session.
    #[error("the instance is gone")]
    Gone,
    /// The streamer did not answer in time. Try again.
    #[error("the streamer did not answer in time")]
    Timeout,
    /// As many measure the way to the node as may at once. Try another one, or again in a moment. Only of [`ToNode::Echo`].
    #[error("as many measure the way to the node as may at once")]
    Busy,
}

/// The other side of a link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the node link is gone")]
pub struct LinkClosed;

/// The control plane's end of a link to one node.
pub trait NodeLink: Send + 'static {
    /// Sends; waits while the link is full.
    ///
    /// # Errors
    /// The node is gone.
    fn send(&mut self, message: ToNode) -> impl Future<Output = Result<(), LinkClosed>> + Send;

    /// The next message; `None` when the node is gone. Safe to cancel.
    fn receive(&mut self) -> impl Future<Output = Option<FromNode>> + Send;

    /// How long nothing was heard of the node. Inside of one process it is not silent: it is there, or gone.
    fn silent_for(&self) -> Duration {
        Duration::ZERO
    }
}

/// The control plane's end of the in-process link.
#[derive(Debug)]
pub struct InProcessLink {
    to_node: mpsc::Sender<ToNode>,
    from_node: mpsc::Receiver<FromNode>,
}

/// The node's end of the in-process link.
#[derive(Debug)]
pub struct NodeEnd {
    /// To the control plane.
    pub to_control: mpsc::Sender<FromNode>,
    /// From the control plane.
    pub from_control: mpsc::Receiver<ToNode>,
}

/// A link inside of one process. When it is full the sender waits.
#[must_use]
pub fn in_process() -> (InProcessLink, NodeEnd) {
    let (to_node, from_control) = mpsc::channel(LINK_DEPTH);
    let (to_control, from_node) = mpsc::channel(LINK_DEPTH);
    (InProcessLink { to_node, from_node }, NodeEnd { to_control, from_control })
}

impl NodeLink for InProcessLink {
    async fn send(&mut self, message: ToNode) -> Result<(), LinkClosed> {
        self.to_node.send(message).await.map_err(|_closed| LinkClosed)
    }

    async fn receive(&mut self) -> Option<FromNode> {
        self.from_node.recv().await
    }
}
