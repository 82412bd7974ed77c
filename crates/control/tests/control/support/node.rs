//! A node that does what it is asked at once, unless a test says otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::command::{CommandOutput, OutputKind};
use api::id::{CommandId, InstanceId, NodeId};
use api::node::{
    Capacity, CommandOutcome, CommandProgress, CommandTask, DesiredCommand, DesiredInstance, FromNode, InstanceState,
    NodeEnd, NodeRefusal, ObservedCommand, ObservedInstance, ObservedNode, ObservedReplica, OfferFailure, PART_BYTES,
    Part, PlayerPresence, ToNode,
};
use api::session::EndReason;
use api::streamer::StreamStatistics;
use tokio::sync::Notify;

/// The node in the same process.
pub(crate) const ID: NodeId = NodeId::from_uuid(uuid::Uuid::from_u128(1));

/// What the scripted node has and how it behaves.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) capacity: Capacity,
    pub(crate) refuses: Option<NodeRefusal>,
    pub(crate) instances: BTreeMap<InstanceId, ObservedInstance>,
    /// New instances stay at this state.
    pub(crate) start_at: InstanceState,
    /// What was wished last.
    pub(crate) desired: Vec<DesiredInstance>,
    /// Most instances that were ever wished at once without a stop.
    pub(crate) most_desired: usize,
    /// Most pixels a second that were.
    pub(crate) most_pixels: u64,
    /// Answers to offers wait for this.
    pub(crate) silent: bool,
    /// A stop is not obeyed.
    pub(crate) stubborn: bool,
    pub(crate) gone: bool,
    /// Releases on its site.
    pub(crate) replicas: Vec<ObservedReplica>,
    /// What was asked last.
    pub(crate) asked: Vec<DesiredCommand>,
    /// How often each command was begun.
    pub(crate) begun: BTreeMap<CommandId, u32>,
    /// How far commands are, and what they brought.
    pub(crate) commands: BTreeMap<CommandId, (CommandProgress, Vec<u8>)>,
    /// Commands stay at work.
    pub(crate) slow: bool,
    /// Clients can measure the way to it.
    pub(crate) echo: bool,
    /// As many do as may.
    pub(crate) busy: bool,
}

#[derive(Clone)]
pub(crate) struct ScriptedNode {
    script: Arc<Mutex<Script>>,
    changed: Arc<Notify>,
}

impl ScriptedNode {
    pub(crate) fn spawn(end: NodeEnd, change: impl FnOnce(&mut Script)) -> Self {
        let mut script = Script {
            capacity: Capacity { sessions: 100, pixels_per_second: u64::MAX, ..Capacity::default() },
            refuses: None,
            instances: BTreeMap::new(),
            start_at: InstanceState::Running { first_frame: true },
            desired: Vec::new(),
            most_desired: 0,
            most_pixels: 0,
            silent: false,
            stubborn: false,
            gone: false,
            replicas: Vec::new(),
            asked: Vec::new(),
            begun: BTreeMap::new(),
            commands: BTreeMap::new(),
            slow: false,
            echo: true,
            busy: false,
        };
        change(&mut script);
        let node = Self { script: Arc::new(Mutex::new(script)), changed: Arc::new(Notify::new()) };
        node.changed.notify_one();
        tokio::spawn(run(end, node.clone()));
        node
    }

    /// Looks at the script.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Script) -> T) -> T {
        read(&self.script.lock().unwrap())
    }

    /// Changes the script; the control plane hears of it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
        self.changed.notify_one();
    }

    /// Changes the instance of the session that came as the `index`th.
    pub(crate) fn instance(&self, index: usize, change: impl FnOnce(&mut ObservedInstance)) {
        self.change(|script| change(script.instances.values_mut().nth(index).expect("no such instance")));
    }

    pub(crate) fn player(&self, index: usize, player: PlayerPresence) {
        self.instance(index, |instance| instance.player = player);
    }

    pub(crate) fn end(&self, index: usize, reason: EndReason) {
        self.instance(index, |instance| {
            instance.state = InstanceState::Ended { reason, detail: Some("scripted".into()) }
        });
    }

    pub(crate) fn figures(&self, index: usize, figures: StreamStatistics) {
        self.instance(index, |instance| instance.statistics = Some(figures));
    }
}

async fn run(mut end: NodeEnd, node: ScriptedNode) {
    loop {
        tokio::select! {
            message = end.from_control.recv() => match message {
                Some(ToNode::Desired(desired)) => {
                    obey(&mut node.script.lock().unwrap(), desired.instances);
                    do_commands(&mut node.script.lock().unwrap(), desired.commands);
                    node.changed.notify_one();
                }
                Some(ToNode::Offer { request, instance, epoch, sdp }) => {
                    let outcome = node.read(|script| match script.instances.get(&instance) {
                        _ if script.silent => None,
                        Some(known) if known.epoch == epoch => Some(answer(&sdp)),
                        Some(_) | None => Some(Err(OfferFailure::Gone)),
                    });
                    if let Some(outcome) = outcome {
                        end.to_control.send(FromNode::Answer { request, outcome }).await.unwrap_or_default();
                    }
                }
                Some(ToNode::Fetch { request, command, offset }) => {
                    let part = node.read(|script| {
                        let output = &script.commands.get(&command)?.1;
                        let rest = output.get(usize::try_from(offset).ok()?..)?;
                        (!rest.is_empty()).then(|| Part(rest[..rest.len().min(PART_BYTES)].to_vec()))
                    });
                    end.to_control.send(FromNode::Part { request, part }).await.unwrap_or_default();
                }
                Some(ToNode::Echo { request, sdp }) => {
                    if !node.read(|script| script.silent) {
                        let outcome = node.read(|script| if script.busy { Err(OfferFailure::Busy) } else { answer(&sdp) });
                        end.to_control.send(FromNode::Answer { request, outcome }).await.unwrap_or_default();
                    }
                }
                // This node knows no other one.
                Some(ToNode::Probe { .. }) => {}
                None => return,
            },
            () = node.changed.notified() => {
                if node.read(|script| script.gone) {
                    return;
                }
                let observed = node.read(|script| ObservedNode {
                    node: ID,
                    capacity: script.capacity,
                    refuses: script.refuses.clone(),
                    instances: script.instances.values().cloned().collect(),
                    replicas: script.replicas.clone(),
                    commands: observed_commands(script),
                    witness: None,
                    echo: script.echo,
                });
                // A control plane that stopped wants no report.
                end.to_control.send(FromNode::Observed(observed)).await.unwrap_or_default();
            }
        }
    }
}

fn observed_commands(script: &Script) -> Vec<ObservedCommand> {
    let commands = script.commands.iter();
    commands.map(|(command, (progress, _))| ObservedCommand { command: *command, progress: progress.clone() }).collect()
}

/// Commands end at once with what they asked, unless a test says otherwise.
fn do_commands(script: &mut Script, desired: Vec<DesiredCommand>) {
    script.commands.retain(|id, _| desired.iter().any(|wish| wish.command == *id));
    for wish in &desired {
        if script.commands.contains_key(&wish.command) {
            continue;
        }
        *script.begun.entry(wish.command).or_default() += 1;
        let (kind, bytes) = match &wish.task {
            CommandTask::Exec { script, .. } => {
                (OutputKind::Text, script.repeat((110_000 / script.len()).max(1)).into_bytes())
            }
            CommandTask::Logs { .. } => (OutputKind::Text, b"no utf-8: \xff\xfe\n".to_vec()),
            CommandTask::Screenshot {} => (OutputKind::Png, super::PIXEL.to_vec()),
        };
        let progress = if script.slow {
            CommandProgress::Running {}
        } else {
            let exit = matches!(wish.task, CommandTask::Exec { .. }).then_some(3);
            let output = Some(CommandOutput { kind, bytes: bytes.len() as u64, cut_bytes: 0 });
            CommandProgress::Ended { outcome: CommandOutcome::Done { exit }, output, duration_ms: 5 }
        };
        script.commands.insert(wish.command, (progress, bytes));
    }
    script.asked = desired;
}

fn answer(sdp: &str) -> Result<String, OfferFailure> {
    if sdp.contains("nonsense") {
        Err(OfferFailure::Refused { detail: "there is no video section".to_owned() })
    } else {
        Ok(format!("v=0\r\ns=answer to {} bytes\r\n", sdp.len()))
    }
}

fn obey(script: &mut Script, desired: Vec<DesiredInstance>) {
    let running = desired.iter().filter(|wish| wish.stop.is_none());
    script.most_desired = script.most_desired.max(running.clone().count());
    script.most_pixels = script.most_pixels.max(running.map(|wish| wish.spec.pixels_per_second()).sum());
    // What ended and is desired anew begins anew.
    let is_wanted = |id: &InstanceId, instance: &ObservedInstance| {
        let wish = desired.iter().find(|wish| wish.instance == *id);
        let is_over = matches!(instance.state, InstanceState::Ended { .. });
        wish.is_some_and(|wish| wish.epoch == instance.epoch || !is_over)
    };
    script.instances.retain(|id, instance| is_wanted(id, instance));
    for wish in &desired {
        let instance = script.instances.entry(wish.instance).or_insert_with(|| ObservedInstance {
            instance: wish.instance,
            epoch: wish.epoch,
            state: script.start_at.clone(),
            player: PlayerPresence::Awaited,
            saved: None,
            save_failure: None,
            statistics: None,
            usage: None,
        });
        if let Some(reason) = wish.stop
            && !script.stubborn
            && !matches!(instance.state, InstanceState::Ended { .. })
        {
            instance.state = InstanceState::Ended { reason, detail: None };
        }
    }
    script.desired = desired;
}
