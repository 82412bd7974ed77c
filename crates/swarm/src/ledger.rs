//! What only somebody who sees all nodes can see: that no instance is in two places, and no node holds more than it can.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::id::{InstanceId, NodeId};

/// Violations that are told in words; more are counted.
const TOLD: usize = 20;

/// What runs where.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: HashMap<InstanceId, (u32, NodeId)>,
    /// The highest epoch of each that was ever begun.
    epochs: HashMap<InstanceId, u32>,
    of_nodes: BTreeMap<NodeId, u32>,
    started: u64,
    violations: u64,
    told: Vec<String>,
}

/// What it says.
#[derive(Debug)]
pub(crate) struct Balance {
    pub(crate) running: usize,
    pub(crate) started: u64,
    pub(crate) violations: u64,
    pub(crate) told: Vec<String>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node begins an instance.
    pub(crate) fn start(&self, node: NodeId, places: u32, instance: InstanceId, epoch: u32) {
        let mut inner = self.lock();
        inner.started += 1;
        if let Some((known, other)) = inner.running.insert(instance, (epoch, node)) {
            // No simulated node is ever lost: what ran somewhere has to end there first.
            inner.tell(format!("instance {instance} of epoch {epoch} on {node} runs with epoch {known} on {other}"));
        }
        let highest = *inner.epochs.entry(instance).and_modify(|known| *known = (*known).max(epoch)).or_insert(epoch);
        if highest > epoch {
            inner.tell(format!("instance {instance} begins with epoch {epoch} after epoch {highest}"));
        }
        let on_node = inner.of_nodes.entry(node).or_default();
        *on_node += 1;
        let on_node = *on_node;
        if on_node > places {
            inner.tell(format!("{on_node} instances on node {node}, which has {places} places"));
        }
    }

    /// A node has ended an instance.
    pub(crate) fn end(&self, node: NodeId, instance: InstanceId) {
        let mut inner = self.lock();
        if inner.running.get(&instance).is_some_and(|(_, on)| *on == node) {
            inner.running.remove(&instance);
        }
        if let Some(on_node) = inner.of_nodes.get_mut(&node) {
            *on_node = on_node.saturating_sub(1);
        }
    }

    /// Something else that must not be.
    pub(crate) fn violation(&self, what: String) {
        self.lock().tell(what);
    }

    pub(crate) fn balance(&self) -> Balance {
        let inner = self.lock();
        Balance {
            running: inner.running.len(),
            started: inner.started,
            violations: inner.violations,
            told: inner.told.clone(),
        }
    }
}

impl Inner {
    fn tell(&mut self, what: String) {
        self.violations += 1;
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }
}
