//! An agent in a directory of its own, and the control plane's end of its link.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::id::{CommandId, InstanceId, NodeId};
use api::manifest::Manifest;
use api::node::{
    CommandProgress, CommandTask, DesiredCommand, DesiredInstance, DesiredInstances, FromNode, InProcessLink,
    InstanceState, NodeLink, ObservedInstance, ObservedNode, OfferFailure, PackageSource, Part, ProbeOutcome, ToNode,
};
use api::session::EndReason;
use api::streamer::NetworkSettings;
use node::{Agent, NodeSettings};
use uuid::Uuid;

/// Longer than anything here takes on a machine under full load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Harness {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) link: InProcessLink,
    pub(crate) agent: Option<Agent>,
    pub(crate) desired: Vec<DesiredInstance>,
    newest: Option<ObservedNode>,
    answers: Vec<(u64, Result<String, OfferFailure>)>,
    probes: Vec<(u64, ProbeOutcome)>,
    pub(crate) commands: Vec<DesiredCommand>,
    parts: Vec<(u64, Option<Part>)>,
}

pub(crate) fn sandbox_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("kite-sandbox");
    assert!(program.is_file(), "{} is missing: cargo build -p sandbox", program.display());
    program
}

pub(crate) fn settings(dir: &Path) -> NodeSettings {
    let network = NetworkSettings {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        advertise: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        advertise_port: None,
        port_min: 50_000,
        port_max: 50_100,
    };
    let streamer = PathBuf::from(env!("CARGO_BIN_EXE_contract-streamer"));
    let mut settings = NodeSettings::new(NodeId::from_uuid(Uuid::from_u128(1)), dir.join("data"), streamer, network);
    settings.runtime_dir = dir.join("run");
    settings.sandbox_program = Some(sandbox_program());
    settings
}

/// A directory that every user may pass through.
pub(crate) fn open_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

pub(crate) fn manifest(command: &[&str], extra: &str) -> Manifest {
    let command = serde_json::to_string(command).unwrap();
    Manifest::parse(&format!("name = \"test\"\ntitle = \"Test\"\n[launch]\ncommand = {command}\n{extra}\n")).unwrap()
}

impl Harness {
    pub(crate) async fn new(behaviour: &str) -> Self {
        Self::with(behaviour, |_| {}).await
    }

    pub(crate) async fn with(behaviour: &str, change: impl FnOnce(&mut NodeSettings)) -> Self {
        let dir = open_dir();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run/behaviour"), behaviour).unwrap();
        fs::create_dir(dir.path().join("package")).unwrap();
        let mut settings = settings(dir.path());
        change(&mut settings);
        let (link, node_end) = api::node::in_process();
        let agent = Agent::start(settings, node_end).await.unwrap();
        Self {
            dir,
            link,
            agent: Some(agent),
            desired: Vec::new(),
            newest: None,
            answers: Vec::new(),
            probes: Vec::new(),
            commands: Vec::new(),
            parts: Vec::new(),
        }
    }

    pub(crate) fn instance(&self, manifest: Manifest) -> DesiredInstance {
        DesiredInstance {
            instance: InstanceId::from_uuid(Uuid::now_v7()),
            epoch: 1,
            spec: manifest.spec.default,
            manifest: Box::new(manifest),
            package: PackageSource::Directory { dir: self.dir.path().join("package") },
            saves: None,
            resizable: true,
            connect_timeout_s: 60,
            reconnect_grace_s: 60,
            stop: None,
            trace: None,
            warm: None,
        }
    }

    pub(crate) async fn want(&mut self) {
        let (instances, commands) = (self.desired.clone(), self.commands.clone());
        self.link.send(ToNode::Desired(DesiredInstances { instances, replicas: Vec::new(), commands })).await.unwrap();
    }

    /// Starts one instance.
    pub(crate) async fn start(&mut self, command: &[&str], extra: &str) -> InstanceId {
        let desired = self.instance(manifest(command, extra));
        let id = desired.instance;
        self.desired.push(desired);
        self.want().await;
        id
    }

    async fn receive(&mut self) {
        let message = tokio::time::timeout(PATIENCE, self.link.receive()).await.expect("the agent is silent");
        match message.expect("the agent is gone") {
            FromNode::Observed(node) => self.newest = Some(node),
            FromNode::Answer { request, outcome } => self.answers.push((request, outcome)),
            FromNode::Probed { request, outcome } => self.probes.push((request, outcome)),
            FromNode::Part { request, part } => self.parts.push((request, part)),
        }
    }

    pub(crate) fn observed(&self, id: InstanceId) -> Option<ObservedInstance> {
        self.newest.as_ref()?.instances.iter().find(|instance| instance.instance == id).cloned()
    }

    /// Waits until the node looks so.
    pub(crate) async fn until(&mut self, what: &str, good: impl Fn(&ObservedNode) -> bool) -> ObservedNode {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(node) = &self.newest
                && good(node)
            {
                return node.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "never {what}: {:?}", self.newest);
            self.receive().await;
        }
    }

    pub(crate) async fn until_state(&mut self, id: InstanceId, good: impl Fn(&InstanceState) -> bool) -> InstanceState {
        let found = |node: &ObservedNode| {
            node.instances.iter().find(|instance| instance.instance == id).map(|instance| instance.state.clone())
        };
        let node = self.until("in that state", |node| found(node).is_some_and(|state| good(&state))).await;
        found(&node).unwrap()
    }

    pub(crate) async fn until_playing(&mut self, id: InstanceId) {
        self.until_state(id, |state| *state == InstanceState::Running { first_frame: true }).await;
    }

    pub(crate) async fn until_ended(&mut self, id: InstanceId) -> (EndReason, Option<String>) {
        match self.until_state(id, |state| matches!(state, InstanceState::Ended { .. })).await {
            InstanceState::Ended { reason, detail } => (reason, detail),
            other => panic!("not ended: {other:?}"),
        }
    }

    pub(crate) async fn offer(&mut self, id: InstanceId, epoch: u32, sdp: &str) -> Result<String, OfferFailure> {
        self.ask_offer(|request| ToNode::Offer { request, instance: id, epoch, sdp: sdp.to_owned() }).await
    }

    /// Sends an offer, and waits for its answer.
    pub(crate) async fn ask_offer(&mut self, message: impl FnOnce(u64) -> ToNode) -> Result<String, OfferFailure> {
        let request = u64::try_from(self.answers.len()).unwrap() + 1;
        self.link.send(message(request)).await.unwrap();
        loop {
            if let Some((_, outcome)) = self.answers.iter().find(|(answered, _)| *answered == request) {
                return outcome.clone();
            }
            self.receive().await;
        }
    }

    /// Asks for a command of an instance's first epoch.
    pub(crate) async fn ask(&mut self, instance: InstanceId, task: CommandTask) -> CommandId {
        let command = CommandId::from_uuid(Uuid::now_v7());
        self.commands.push(DesiredCommand { command, instance, epoch: 1, task });
        self.want().await;
        command
    }

    /// Waits until a command has ended; how.
    pub(crate) async fn until_done(&mut self, id: CommandId) -> CommandProgress {
        let found = |node: &ObservedNode| {
            let progress = node.commands.iter().find(|one| one.command == id).map(|one| one.progress.clone());
            progress.filter(|progress| matches!(progress, CommandProgress::Ended { .. }))
        };
        let node = self.until("done", |node| found(node).is_some()).await;
        found(&node).unwrap()
    }

    /// All that a command brought.
    pub(crate) async fn output(&mut self, command: CommandId) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let request = u64::try_from(self.parts.len()).unwrap() + 1;
            self.link.send(ToNode::Fetch { request, command, offset: bytes.len() as u64 }).await.unwrap();
            while !self.parts.iter().any(|(answered, _)| *answered == request) {
                self.receive().await;
            }
            let (_, part) = self.parts.last().unwrap();
            match part {
                Some(part) => bytes.extend_from_slice(&part.0),
                None => return bytes,
            }
        }
    }

    pub(crate) async fn probe(&mut self, address: SocketAddr) -> ProbeOutcome {
        let request = u64::try_from(self.probes.len()).unwrap() + 1;
        self.link.send(ToNode::Probe { request, address }).await.unwrap();
        loop {
            if let Some((_, outcome)) = self.probes.iter().find(|(answered, _)| *answered == request) {
                return *outcome;
            }
            self.receive().await;
        }
    }

    /// Nothing of an instance is left on the machine, but its logs.
    pub(crate) fn assert_nothing_left(&self, id: InstanceId) {
        for dir in ["data/instances", "run"] {
            let path = self.dir.path().join(dir).join(id.to_string());
            assert!(!path.exists(), "{} is left", path.display());
        }
        let processes = processes_with(&id.to_string());
        assert_eq!(processes, Vec::<String>::new(), "processes are left");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&id.to_string()), "mounts are left");
        assert!(!control_group_exists(Path::new("/sys/fs/cgroup"), &id.to_string(), 4), "a control group is left");
    }

    pub(crate) fn log(&self, id: InstanceId, name: &str) -> String {
        fs::read_to_string(self.dir.path().join("data/logs").join(id.to_string()).join(name)).unwrap_or_default()
    }

    pub(crate) async fn stop(mut self) {
        self.agent.take().unwrap().stop().await;
    }
}

/// Command lines of processes whose environment or arguments name the instance.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let text = [read("environ"), read("cmdline")].concat();
        if text.windows(word.len()).any(|window| window == word.as_bytes()) {
            found.push(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
        }
    }
    found
}

fn control_group_exists(dir: &Path, word: &str, depth: u8) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_dir
            && (entry.file_name().to_string_lossy().contains(word)
                || (depth > 0 && control_group_exists(&entry.path(), word, depth - 1)))
    })
}
