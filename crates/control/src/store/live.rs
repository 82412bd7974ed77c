//! The sessions that live, as this process wrote them: so that nobody reads ten thousand rows at each look.
//!
//! Principles: a copy, never the truth. It is filled from the database ([`Store::load_live`]), written after each commit, and every change of a
//! session reads its row again. What could not be written for certain puts it in doubt, and it is compared with the database.
//! Only the process that rules has one: in all others it stays empty. Deliberately absent: SQL, waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::id::{NodeId, PlayerId, PoolId, SessionId};

use super::claim::Usage;
use super::session::SessionRecord;
use super::{Store, StoreError};

/// Ended sessions that are remembered, so that nothing that was read before their end brings them back.
const REMEMBERED: usize = 4096;

/// Smallest part of all that is looked at: as many as cost nothing.
const LEAST_SLICE: usize = 200;

/// Rows in the order of their ids, which is that of their coming.
pub(crate) type Records = BTreeMap<SessionId, Arc<SessionRecord>>;

/// The copy.
#[derive(Debug, Default)]
pub(crate) struct Live {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Records,
    of_nodes: BTreeMap<NodeId, BTreeSet<SessionId>>,
    of_tokens: HashMap<[u8; 32], SessionId>,
    /// Warm instances.
    of_pools: BTreeMap<PoolId, BTreeSet<SessionId>>,
    /// How many live, also those whose request is being written.
    of_addresses: BTreeMap<String, u32>,
    of_players: BTreeMap<PlayerId, u32>,
    waiting: u32,
    placed: u32,
    /// Which were written since somebody asked last.
    changed: BTreeSet<SessionId>,
    /// The last that ended.
    ended: VecDeque<SessionId>,
    /// What came to light otherwise than by the writer's own word, and has to be told by somebody else.
    found: Vec<SessionRecord>,
    in_doubt: bool,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code between lock and unlock can panic halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One session.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<SessionRecord>> {
        self.lock().records.get(&id).cloned()
    }

    /// The one whose token has this hash.
    pub(super) fn by_token(&self, hash: &[u8; 32]) -> Option<Arc<SessionRecord>> {
        let inner = self.lock();
        inner.of_tokens.get(hash).and_then(|id| inner.records.get(id)).cloned()
    }

    /// All.
    pub(crate) fn all(&self) -> Vec<Arc<SessionRecord>> {
        self.lock().records.values().cloned().collect()
    }

    /// The next of so many parts: those after this one. Empty behind the last one.
    pub(crate) fn slice(&self, after: Option<SessionId>, parts: usize) -> Vec<Arc<SessionRecord>> {
        let inner = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let count = (inner.records.len() / parts.max(1) + 1).max(LEAST_SLICE);
        inner.records.range((from, Bound::Unbounded)).take(count).map(|(_, record)| Arc::clone(record)).collect()
    }

    /// How many there are.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().records.len()
    }

    /// Those of a node.
    pub(crate) fn of_node(&self, node: NodeId) -> Vec<Arc<SessionRecord>> {
        let inner = self.lock();
        let ids = inner.of_nodes.get(&node).into_iter().flatten();
        ids.filter_map(|id| inner.records.get(id)).cloned().collect()
    }

    /// The warm instances, by pool.
    pub(crate) fn of_pools(&self) -> BTreeMap<PoolId, Vec<Arc<SessionRecord>>> {
        let inner = self.lock();
        let records = |ids: &BTreeSet<SessionId>| ids.iter().filter_map(|id| inner.records.get(id)).cloned().collect();
        inner.of_pools.iter().map(|(pool, ids)| (*pool, records(ids))).collect()
    }

    /// Those that were written since this was asked last, ended ones among them.
    pub(crate) fn take_changed(&self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.lock().changed)
    }

    /// What is used now, with what is this address's and this player's.
    pub(crate) fn usage(&self, address: &str, player: Option<PlayerId>) -> Usage {
        self.lock().usage(address, player)
    }

    /// True once after something could not be written for certain.
    pub(crate) fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.lock().in_doubt)
    }

    /// Counts a session whose request is about to be written, if `admit` agrees to what is used at that moment.
    pub(super) fn admit<R>(
        &self,
        record: &SessionRecord,
        admit: impl FnOnce(Usage) -> Result<(), R>,
    ) -> Result<Admission<'_>, R> {
        let mut inner = self.lock();
        admit(inner.usage(&record.address, record.player_id))?;
        inner.count(record, true);
        Ok(Admission { live: self, record: record.clone(), is_over: false })
    }

    /// A row was written.
    #[cfg(test)]
    pub(super) fn note(&self, record: &SessionRecord) {
        self.lock().note(record);
    }

    /// Rows were written in one transaction, and are seen at once: nobody sees an instance that is neither of whom it was nor of whom it is. Of
    /// what was given away somebody else has to tell.
    pub(super) fn note_all<'a>(&self, given: &[SessionRecord], written: impl Iterator<Item = &'a SessionRecord>) {
        let mut inner = self.lock();
        for record in given {
            if inner.note(record) {
                inner.found.push(record.clone());
            }
        }
        for record in written {
            inner.note(record);
        }
    }

    /// A row was read. What is newer than what is known was written without a word.
    pub(super) fn find(&self, record: &SessionRecord) {
        let mut inner = self.lock();
        if inner.note(record) {
            inner.found.push(record.clone());
        }
    }

    /// What was found since this was asked last.
    pub(crate) fn take_found(&self) -> Vec<SessionRecord> {
        std::mem::take(&mut self.lock().found)
    }

    /// Something is about to be written. Until [`Uncertain::settle`] says how that went, nobody knows: also not when whoever waits for it
    /// goes away.
    pub(super) fn uncertain(&self) -> Uncertain<'_> {
        Uncertain { live: self, is_settled: false }
    }

    /// Something may have been written, or not.
    pub(crate) fn doubt(&self) {
        self.lock().in_doubt = true;
    }
}

impl Inner {
    fn usage(&self, address: &str, player: Option<PlayerId>) -> Usage {
        Usage {
            placed: self.placed,
            waiting: self.waiting,
            of_address: self.of_addresses.get(address).copied().unwrap_or(0),
            of_player: player.and_then(|player| self.of_players.get(&player)).copied().unwrap_or(0),
        }
    }

    /// Counts a session in, or out.
    fn count(&mut self, record: &SessionRecord, is_in: bool) {
        // A warm instance is nobody's: what it takes is there for whoever asks.
        if record.pool.is_some() {
            return;
        }
        let step = |count: u32| if is_in { count.saturating_add(1) } else { count.saturating_sub(1) };
        let total = if record.node.is_some() { &mut self.placed } else { &mut self.waiting };
        *total = step(*total);
        let of_address = self.of_addresses.entry(record.address.clone()).or_default();
        *of_address = step(*of_address);
        if *of_address == 0 {
            self.of_addresses.remove(&record.address);
        }
        if let Some(player) = record.player_id {
            let of_player = self.of_players.entry(player).or_default();
            *of_player = step(*of_player);
            if *of_player == 0 {
                self.of_players.remove(&player);
            }
        }
    }

    fn insert(&mut self, record: SessionRecord) {
        self.count(&record, true);
        self.of_tokens.insert(record.token_hash, record.id);
        if let Some(node) = record.node {
            self.of_nodes.entry(node).or_default().insert(record.id);
        }
        if let Some(pool) = record.pool {
            self.of_pools.entry(pool).or_default().insert(record.id);
        }
        self.changed.insert(record.id);
        self.records.insert(record.id, Arc::new(record));
    }

    fn remove(&mut self, id: SessionId) -> Option<Arc<SessionRecord>> {
        let record = self.records.remove(&id)?;
        self.count(&record, false);
        self.of_tokens.remove(&record.token_hash);
        if let Some(node) = record.node
            && let Some(of_node) = self.of_nodes.get_mut(&node)
        {
            of_node.remove(&id);
            if of_node.is_empty() {
                self.of_nodes.remove(&node);
            }
        }
        if let Some(pool) = record.pool
            && let Some(of_pool) = self.of_pools.get_mut(&pool)
        {
            of_pool.remove(&id);
            if of_pool.is_empty() {
                self.of_pools.remove(&pool);
            }
        }
        self.changed.insert(id);
        Some(record)
    }

    /// Takes what is newer than what is known, and says whether it is; of what is not known nothing: its request comes first.
    fn note(&mut self, record: &SessionRecord) -> bool {
        if self.records.get(&record.id).is_none_or(|known| known.revision >= record.revision) {
            return false;
        }
        self.remove(record.id);
        if record.state.is_ended() {
            self.remember(record.id);
        } else {
            self.insert(record.clone());
        }
        true
    }

    fn remember(&mut self, id: SessionId) {
        self.ended.push_back(id);
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
    }
}

/// A request that is being written. Dropped without [`Admission::done`] it counts no more.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    live: &'a Live,
    record: SessionRecord,
    is_over: bool,
}

impl Admission<'_> {
    /// It was written.
    pub(super) fn done(mut self) {
        let mut inner = self.live.lock();
        inner.count(&self.record, false);
        // Who compared the copy with the database meanwhile has found it.
        let id = self.record.id;
        if !inner.records.contains_key(&id) && !inner.ended.contains(&id) {
            inner.insert(self.record.clone());
        }
        self.is_over = true;
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.live.lock().count(&self.record, false);
        }
    }
}

/// A write that is under way. Dropped without [`Uncertain::settle`] it puts the copy in doubt.
#[derive(Debug)]
pub(super) struct Uncertain<'a> {
    live: &'a Live,
    is_settled: bool,
}

impl Uncertain<'_> {
    /// It was written.
    pub(super) fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Uncertain<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.live.doubt();
        }
    }
}

impl Store {
    /// Fills the copy, or mends it: after this it is what the database was at some moment of the call, or newer.
    pub(crate) async fn load_live(&self) -> Result<(), StoreError> {
        let rows: BTreeMap<SessionId, SessionRecord> =
            self.read_live().await?.into_iter().map(|record| (record.id, record)).collect();
        let known = self.live.lock().records.clone();
        for (id, record) in &rows {
            if known.get(id).is_none_or(|known| known.revision < record.revision) {
                // Read once more, unless it cannot have ended since: the copy forgets what ends.
                let mut inner = self.live.lock();
                let is_new = if inner.records.contains_key(id) {
                    inner.note(record)
                } else if inner.ended.contains(id) {
                    false
                } else {
                    inner.insert(record.clone());
                    true
                };
                if is_new {
                    inner.found.push(record.clone());
                }
            }
        }
        for id in known.keys().filter(|id| !rows.contains_key(id)) {
            // It may have come while the rows were read.
            match self.read_session(*id).await? {
                Some(record) => self.live.find(&record),
                None => {
                    let mut inner = self.live.lock();
                    inner.remove(*id);
                    inner.remember(*id);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    fn placed(record: &SessionRecord, node: u128, revision: u64) -> SessionRecord {
        let node = Some(NodeId::from_uuid(uuid::Uuid::from_u128(node)));
        SessionRecord { node, revision, state: api::session::SessionState::Reserved, ..record.clone() }
    }

    #[test]
    fn what_was_found_meanwhile_counts_once() {
        let live = Live::default();
        let first = record("pong");
        let admission = live.admit(&first, |_| Ok::<_, ()>(())).unwrap();
        // Somebody else reads the row, and decides about it, before the writer goes on.
        live.lock().insert(first.clone());
        live.note(&placed(&first, 2, 5));
        admission.done();
        assert_eq!(live.usage("hash", None), Usage { placed: 1, waiting: 0, of_address: 1, of_player: 0 });
        assert_eq!(live.get(first.id).unwrap().revision, 5);
        live.find(&placed(&first, 2, 4));
        assert!(live.take_found().is_empty(), "older than what is known");
        live.find(&placed(&first, 2, 6));
        assert_eq!(live.take_found().len(), 1);
        live.uncertain().settle();
        assert!(!live.take_doubt());
        drop(live.uncertain());
        assert!(live.take_doubt());
    }

    #[test]
    fn only_newer_rows_count_and_what_ended_stays_away() {
        let live = Live::default();
        let first = record("pong");
        live.note(&first);
        assert_eq!(live.count(), 0, "its request comes first");
        drop(live.admit(&first, |_| Ok::<_, ()>(())).unwrap());
        assert_eq!(live.usage("hash", None), Usage::default());
        let admission = live.admit(&first, |_| Ok::<_, ()>(())).unwrap();
        assert_eq!((live.usage("hash", None).waiting, live.count()), (1, 0));
        admission.done();
        live.note(&placed(&first, 2, 7));
        live.note(&placed(&first, 1, 6));
        let node = NodeId::from_uuid(uuid::Uuid::from_u128(2));
        assert_eq!(live.of_node(node).len(), 1);
        assert_eq!(live.usage("hash", None), Usage { placed: 1, waiting: 0, of_address: 1, of_player: 0 });
        assert!(live.by_token(&first.token_hash).is_some());
        assert_eq!(live.take_changed().len(), 1);
        let at = first.created_at;
        let reason = api::session::EndReason::PlayerLeft;
        let state = api::session::SessionState::Ended { reason, party: reason.party(), at };
        live.note(&SessionRecord { state, ..placed(&first, 2, 8) });
        live.note(&placed(&first, 2, 9));
        assert_eq!((live.count(), live.usage("hash", None)), (0, Usage::default()));
        assert!(live.of_node(node).is_empty() && live.by_token(&first.token_hash).is_none());
        assert_eq!(live.take_changed().len(), 1);
    }
}
