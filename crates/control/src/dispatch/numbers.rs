//! The scheduler counts what it decides about; the rest of the world has names.

use std::collections::BTreeMap;

use api::fleet::TenantGrant;
use api::id::SessionId;
use scheduler::Grant;

/// Numbers in the order in which names were first met.
#[derive(Clone, Debug)]
pub(super) struct Numbers<K> {
    numbers: BTreeMap<K, usize>,
    names: Vec<K>,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), names: Vec::new() }
    }
}

impl<K: Ord + Clone> Numbers<K> {
    /// The number of a name, and whether it is new.
    pub(super) fn of(&mut self, name: &K) -> (usize, bool) {
        if let Some(number) = self.numbers.get(name) {
            return (*number, false);
        }
        let number = self.names.len();
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        (number, true)
    }

    pub(super) fn known(&self, name: &K) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    pub(super) fn name(&self, number: usize) -> Option<&K> {
        self.names.get(number)
    }

    pub(super) fn names(&self) -> &[K] {
        &self.names
    }
}

/// Numbers of sessions, which come and go: none is given twice.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    given: u64,
    numbers: BTreeMap<SessionId, scheduler::SessionId>,
    ids: BTreeMap<scheduler::SessionId, SessionId>,
}

impl Sessions {
    pub(super) fn of(&mut self, id: SessionId) -> scheduler::SessionId {
        if let Some(number) = self.known(id) {
            return number;
        }
        let number = scheduler::SessionId(self.given);
        self.given += 1;
        self.numbers.insert(id, number);
        self.ids.insert(number, id);
        number
    }

    pub(super) fn known(&self, id: SessionId) -> Option<scheduler::SessionId> {
        self.numbers.get(&id).copied()
    }

    pub(super) fn id(&self, number: scheduler::SessionId) -> Option<SessionId> {
        self.ids.get(&number).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.numbers.keys().copied()
    }

    pub(super) fn forget(&mut self, id: SessionId) -> Option<scheduler::SessionId> {
        let number = self.numbers.remove(&id)?;
        self.ids.remove(&number);
        Some(number)
    }
}

/// A grant as the scheduler takes it; without one there is no bound.
pub(super) fn grant(granted: Option<&TenantGrant>) -> Grant {
    let Some(TenantGrant { guarantee, borrow, maximum, weight }) = granted.copied() else {
        return Grant { guarantee: 0, borrow: u32::MAX, maximum: u32::MAX, weight: 1 };
    };
    Grant { guarantee, borrow, maximum: maximum.unwrap_or(u32::MAX), weight: weight.max(1) }
}
