//! A simulated node: it joins, keeps its link, and does at once what it is asked, without games.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::id::{InstanceId, NodeId};
use api::node::{
    Capacity, DesiredInstance, DesiredInstances, FromNode, InstanceState, InstanceUsage, NodeEnd, ObservedInstance,
    ObservedNode, OfferFailure, PlayerPresence, ProbeOutcome, ToNode,
};
use api::streamer::StreamStatistics;
use hyper::Method;
use link::{Connection, JoinToken};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Swarm;

/// How often figures of streams are told, as a node does.
const MEASURE: Duration = Duration::from_secs(5);

/// What a simulated game takes at most: thousandths of a processor, MiB, kilobits a second.
const CPU_MILLI: u32 = 900;
const MEMORY_MIB: u32 = 500;
const EGRESS_KBPS: u32 = 6000;

/// Tries to join: a control plane takes so many strangers at once.
const TRIES: u32 = 50;

/// What a streamer answers; what it says is not looked at by anybody.
const ANSWER: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

/// Joins, and lives as long as the process.
pub(crate) async fn join(
    swarm: Arc<Swarm>,
    links: Vec<String>,
    site: String,
    number: u32,
    dir: PathBuf,
) -> anyhow::Result<()> {
    let made = swarm.http.operate(Method::POST, "/v1/nodes/tokens", &json!({ "site": site })).await?;
    let token: JoinToken = made.text("/token")?.parse().context("no join token")?;
    tokio::fs::create_dir_all(&dir).await?;
    let mut tries = 0;
    let identity = loop {
        let address = &links[tries as usize % links.len()];
        match link::join(address, &token, &format!("swarm-{number}"), &dir).await {
            Ok(identity) => break identity,
            Err(error) if tries >= TRIES => return Err(error).context("a node cannot join"),
            Err(_error) => {
                tries += 1;
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let id = identity.node();
    let (end, connection) = link::connect(links, identity, dir);
    let node =
        Node { id, swarm, instances: BTreeMap::new(), measured_at: Instant::now() + MEASURE * (number % 100) / 100 };
    tokio::spawn(node.run(end, connection));
    Ok(())
}

struct Node {
    id: NodeId,
    swarm: Arc<Swarm>,
    instances: BTreeMap<InstanceId, (ObservedInstance, Instant)>,
    measured_at: Instant,
}

impl Node {
    async fn run(mut self, mut end: NodeEnd, connection: Connection) {
        let state = connection.state();
        let mut was_connected = false;
        let mut is_news = true;
        loop {
            tokio::select! {
                message = end.from_control.recv() => match message {
                    Some(ToNode::Desired(desired)) => is_news |= self.desire(desired),
                    Some(ToNode::Offer { request, instance, epoch, .. }) => {
                        let outcome = self.offer(instance, epoch);
                        is_news |= outcome.is_ok();
                        let sent = end.to_control.send(FromNode::Answer { request, outcome }).await;
                        if sent.is_err() { return }
                    }
                    // It does no commands, and so has no output.
                    Some(ToNode::Fetch { .. }) => {}
                    // It has no echo, and says so.
                    Some(ToNode::Echo { .. }) => {}
                    Some(ToNode::Probe { request, .. }) => {
                        let sent = end.to_control.send(FromNode::Probed { request, outcome: ProbeOutcome::Unknown }).await;
                        if sent.is_err() { return }
                    }
                    None => return,
                },
                () = sleep_until(self.due()) => is_news |= self.advance(),
            }
            let connected = matches!(&*state.borrow(), link::ConnectionState::Connected { .. });
            if connected != was_connected {
                was_connected = connected;
                self.swarm.report.node_connected(connected);
            }
            if is_news {
                is_news = false;
                if end.to_control.send(FromNode::Observed(self.observed())).await.is_err() {
                    return;
                }
            }
        }
    }

    fn observed(&self) -> ObservedNode {
        ObservedNode {
            node: self.id,
            capacity: Capacity {
                sessions: self.swarm.places,
                pixels_per_second: 100_000_000_000,
                // Places are what is counted here; the rest is only enough to be added up.
                cpu_milli: Some(self.swarm.places.saturating_mul(CPU_MILLI * 2)),
                memory_mib: Some(self.swarm.places.saturating_mul(MEMORY_MIB * 8)),
                egress_kbps: Some(self.swarm.places.saturating_mul(EGRESS_KBPS * 4)),
            },
            refuses: None,
            instances: self.instances.values().map(|(instance, _)| instance.clone()).collect(),
            replicas: Vec::new(),
            commands: Vec::new(),
            witness: None,
            echo: false,
        }
    }

    /// Makes what is equal to what shall be; says whether anything changed.
    fn desire(&mut self, desired: DesiredInstances) -> bool {
        let mut changed = false;
        for wish in &desired.instances {
            changed |= self.wish(wish);
        }
        let gone: Vec<InstanceId> = self
            .instances
            .keys()
            .filter(|id| desired.instances.iter().all(|wish| wish.instance != **id))
            .copied()
            .collect();
        for id in gone {
            changed = true;
            self.end(id);
            self.instances.remove(&id);
        }
        changed
    }

    fn wish(&mut self, wish: &DesiredInstance) -> bool {
        let known = self.instances.get(&wish.instance).map(|(known, _)| (known.epoch, known.state.clone()));
        match (known, wish.stop) {
            (Some((epoch, InstanceState::Ended { .. })), _) if epoch == wish.epoch => false,
            (Some((epoch, _)), None) if epoch == wish.epoch => false,
            (Some((epoch, _)), Some(reason)) if epoch == wish.epoch => {
                self.end(wish.instance);
                if let Some((instance, _)) = self.instances.get_mut(&wish.instance) {
                    instance.state = InstanceState::Ended { reason, detail: None };
                }
                true
            }
            (Some(_), _) => {
                self.end(wish.instance);
                self.instances.remove(&wish.instance);
                self.wish(wish)
            }
            (None, stop) => {
                let state = match stop {
                    Some(reason) => InstanceState::Ended { reason, detail: None },
                    None => {
                        self.swarm.ledger.start(self.id, self.swarm.places, wish.instance, wish.epoch);
                        InstanceState::StreamerStarting
                    }
                };
                let instance = ObservedInstance {
                    instance: wish.instance,
                    epoch: wish.epoch,
                    state,
                    player: PlayerPresence::Awaited,
                    saved: None,
                    save_failure: None,
                    statistics: None,
                    usage: None,
                };
                self.instances.insert(wish.instance, (instance, Instant::now()));
                true
            }
        }
    }

    /// Nothing of it runs any more.
    fn end(&mut self, id: InstanceId) {
        let ran = self.instances.get(&id).is_some_and(|(instance, _)| !is_over(instance));
        if ran {
            self.swarm.ledger.end(self.id, id);
        }
    }

    fn offer(&mut self, id: InstanceId, epoch: u32) -> Result<String, OfferFailure> {
        match self.instances.get_mut(&id) {
            Some((instance, _)) if instance.epoch == epoch && !is_over(instance) => {
                instance.player = PlayerPresence::Connected;
                Ok(ANSWER.to_owned())
            }
            Some(_) | None => Err(OfferFailure::Gone),
        }
    }

    /// When a start goes on, or streams are measured, whichever is first.
    fn due(&self) -> Instant {
        let start = self.swarm.start;
        let steps = self.instances.values().filter_map(|(instance, since)| match instance.state {
            InstanceState::StreamerStarting => Some(*since + start / 2),
            InstanceState::GameStarting => Some(*since + start),
            _ => None,
        });
        steps.min().unwrap_or(self.measured_at + MEASURE).min(self.measured_at + MEASURE)
    }

    /// Starts go on, and streams are measured.
    fn advance(&mut self) -> bool {
        let (now, start) = (Instant::now(), self.swarm.start);
        let measures = now.duration_since(self.measured_at) >= MEASURE;
        if measures {
            self.measured_at = now;
        }
        let mut changed = false;
        for (instance, since) in self.instances.values_mut() {
            let age = now.duration_since(*since);
            let next = match instance.state {
                InstanceState::StreamerStarting if age >= start / 2 => InstanceState::GameStarting,
                InstanceState::GameStarting if age >= start => InstanceState::Running { first_frame: true },
                _ => {
                    if measures && matches!(instance.state, InstanceState::Running { .. }) {
                        let idle_s = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
                        let figures =
                            StreamStatistics { frames_per_second: 60.0, idle_s, ..StreamStatistics::default() };
                        instance.statistics = Some(figures);
                        let sample = instance.usage.map_or(1, |usage| usage.sample.saturating_add(1));
                        instance.usage = Some(InstanceUsage {
                            sample,
                            // Not the same each time, as with games.
                            cpu_milli: CPU_MILLI - sample % 5 * 20,
                            memory_mib: MEMORY_MIB,
                            egress_kbps: EGRESS_KBPS,
                            is_starved: false,
                        });
                        changed = true;
                    }
                    continue;
                }
            };
            instance.state = next;
            changed = true;
        }
        changed
    }
}

fn is_over(instance: &ObservedInstance) -> bool {
    matches!(instance.state, InstanceState::Ended { .. })
}
