//! Gives sessions their places: the database and the nodes on one side, the pure `scheduler` on the other.
//!
//! Level-triggered: it is shown what may have changed, and every so often all sessions that live and all nodes, brings the scheduler up to
//! that, and says what rows have to become. What could not be written is said again the next time; a process that begins anew comes to the
//! same state.
//! Deliberately absent: the database, waiting.

mod demand;
mod numbers;
mod view;
mod warm;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::clock::UtcTime;
use api::content::ReplicaState;
use api::fleet::{Duty, Health, TenantGrant};
use api::id::{ContentId, NodeId, SessionId};
use api::node::{Capacity, ObservedReplica};
use api::rest::{QueuePlace, SiteVerdict};
use api::session::{EndReason, SessionState, WaitCause};
use scheduler::{
    ClassId, Decision, Event, Explanation, NodeState, Presence, Priority, ReleaseId, Request, Scheduler, Settings,
    SiteId, SiteSettings, TenantId,
};

use self::demand::resources;
use self::numbers::{Numbers, Sessions, grant};
use self::warm::Warm;
use self::ways::{ways, with_ways};
use crate::coordinator::fleet::{NodeView, Nodes, replica_at};
use crate::demand::{Asked, Demand};
use crate::store::SessionRecord;

/// What has to become of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It waits.
    Queue { session: SessionId, cause: WaitCause },
    /// A place is kept for it.
    Offer { session: SessionId, node: NodeId, demand: Demand, until: UtcTime, why: Vec<SiteVerdict> },
    /// The place is its.
    Reserve { session: SessionId, node: NodeId, demand: Demand, why: Vec<SiteVerdict> },
    /// The place of a warm instance is its, and the instance.
    Claim { session: SessionId, node: NodeId, warm: SessionId, demand: Demand, why: Vec<SiteVerdict> },
    /// A warm instance is given up: somebody who plays needs its place.
    GiveUp { session: SessionId },
    /// It gets none.
    End { session: SessionId, reason: EndReason, why: Vec<SiteVerdict> },
}

/// What a session plays, as far as its place depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Played {
    /// Of a release; `None` for a directory.
    pub(crate) content: Option<ContentId>,
    /// The only site that has it; `None` = all may.
    pub(crate) site: Option<String>,
    /// The hardware class that it needs.
    pub(crate) class: String,
}

/// Sessions in the order of their ids, which is that of their coming; without a row one that lives no more.
pub(crate) type Touched = Vec<(SessionId, Option<Arc<SessionRecord>>)>;

/// Everything that is shown.
pub(crate) struct Shown<'a> {
    pub(crate) now: UtcTime,
    /// Those that may have changed since the last look.
    pub(crate) touched: &'a [(SessionId, Option<Arc<SessionRecord>>)],
    /// All that live are touched, and all nodes may have changed.
    pub(crate) is_whole: bool,
    /// Any session that lives.
    pub(crate) record: &'a dyn Fn(SessionId) -> Option<Arc<SessionRecord>>,
    pub(crate) nodes: &'a Nodes,
    pub(crate) changed_nodes: &'a BTreeSet<NodeId>,
    pub(crate) grants: &'a BTreeMap<String, TenantGrant>,
    /// What a session plays.
    pub(crate) played: &'a dyn Fn(&SessionRecord) -> Played,
    /// What is known of what a session takes.
    pub(crate) asked: &'a dyn Fn(&SessionRecord) -> Asked,
    /// Another one when that may be answered otherwise than before.
    pub(crate) asked_version: u64,
    /// How long a session waits at most.
    pub(crate) patience: Duration,
    /// All who wait are told how their wait stands, not only those who begin to.
    pub(crate) tells_waits: bool,
}

impl Shown<'_> {
    fn live(&self) -> impl Iterator<Item = &SessionRecord> {
        self.touched.iter().filter_map(|(_, record)| record.as_deref())
    }
}

/// What it answers.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) acts: Vec<Act>,
    /// How each wait stands.
    pub(crate) waits: Vec<(SessionId, QueuePlace)>,
}

/// The names of hardware classes.
type ClassName = String;

/// Drives the scheduler.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    scheduler: Scheduler,
    /// How far a site is of which nothing was measured.
    unknown_round_trip: Duration,
    /// The scheduler's time is counted from here.
    began: UtcTime,
    sites: Numbers<String>,
    classes: Numbers<ClassName>,
    tenants: Numbers<String>,
    /// Of a release its content, of a directory the app's name.
    releases: Numbers<String>,
    nodes: Numbers<NodeId>,
    sessions: Sessions,
    /// Which epoch of a session the scheduler knows.
    epochs: BTreeMap<SessionId, u32>,
    /// What sites said of those who were placed at once, until that is written.
    whys: BTreeMap<SessionId, Explanation>,
    /// Rows that want a place.
    waits: BTreeSet<SessionId>,
    warm: Warm,
    /// What was told, so that only changes are told.
    told_nodes: BTreeMap<NodeId, (Capacity, NodeState)>,
    told_replicas: BTreeMap<NodeId, Vec<ObservedReplica>>,
    told_grants: BTreeMap<String, scheduler::Grant>,
    told_presence: BTreeMap<(SiteId, ReleaseId), Presence>,
    contents: BTreeMap<ReleaseId, Option<ContentId>>,
    /// By which those who wait ask.
    asked_version: u64,
}

impl Dispatcher {
    /// One that knows nothing yet. Offers last so long.
    pub(crate) fn new(now: UtcTime, offer: Duration) -> Self {
        let settings = Settings { offer, ..Settings::default() };
        Self {
            unknown_round_trip: settings.unknown_round_trip,
            scheduler: Scheduler::new(settings),
            began: now,
            sites: Numbers::default(),
            classes: Numbers::default(),
            tenants: Numbers::default(),
            releases: Numbers::default(),
            nodes: Numbers::default(),
            sessions: Sessions::default(),
            epochs: BTreeMap::new(),
            whys: BTreeMap::new(),
            waits: BTreeSet::new(),
            warm: Warm::default(),
            told_nodes: BTreeMap::new(),
            told_replicas: BTreeMap::new(),
            told_grants: BTreeMap::new(),
            told_presence: BTreeMap::new(),
            contents: BTreeMap::new(),
            asked_version: 0,
        }
    }

    /// Looks at what is shown.
    pub(crate) fn look(&mut self, shown: &Shown<'_>) -> Said {
        let now = self.time(shown.now);
        let mut said = Said::default();
        self.forget_ended(now, shown);
        let sites = self.tell_nodes(now, shown);
        let releases = self.number(now, shown);
        self.tell_presence(now, shown, &sites, &releases);
        self.adopt(now, shown);
        self.learn(now, shown);
        let refused = self.ask(now, shown);
        self.scheduler.tick(now);
        let mut lapsed = self.hear(shown);
        self.warm.promise(shown.now);
        said.acts.extend(refused);
        said.acts.append(&mut lapsed);
        self.compare(shown, &mut said);
        said
    }

    fn time(&self, at: UtcTime) -> Duration {
        at.since(self.began)
    }

    fn session(&self, id: SessionId) -> Option<scheduler::SessionId> {
        self.sessions.known(id)
    }

    fn knows(&self, record: &SessionRecord) -> bool {
        self.session(record.id).is_some_and(|session| self.scheduler.knows(session))
    }

    /// What lives no more makes room.
    fn forget_ended(&mut self, now: Duration, shown: &Shown<'_>) {
        let mut gone: BTreeSet<SessionId> =
            shown.touched.iter().filter(|(_, record)| record.is_none()).map(|(id, _)| *id).collect();
        if shown.is_whole {
            let live: BTreeSet<SessionId> = shown.live().map(|record| record.id).collect();
            gone.extend(self.sessions.ids().filter(|id| !live.contains(id)));
        }
        for id in gone {
            self.epochs.remove(&id);
            self.whys.remove(&id);
            self.waits.remove(&id);
            self.warm.gone(id);
            if let Some(session) = self.sessions.forget(id) {
                self.scheduler.end(now, session);
            }
        }
        for record in shown.live() {
            if wants_place(record) {
                self.waits.insert(record.id);
            } else {
                self.waits.remove(&record.id);
                self.whys.remove(&record.id);
                self.warm.settle(record.id);
            }
            self.warm.see(record);
        }
    }

    /// Says on which sites a release may have come or gone.
    fn tell_nodes(&mut self, now: Duration, shown: &Shown<'_>) -> BTreeSet<String> {
        let mut sites = BTreeSet::new();
        let changed: Vec<(&NodeId, &NodeView)> = if shown.is_whole {
            shown.nodes.iter().collect()
        } else {
            shown.changed_nodes.iter().filter_map(|id| Some((id, shown.nodes.get(id)?))).collect()
        };
        for (id, view) in changed {
            let capacity = view.capacity();
            let state = state(view);
            let replicas = view.last.as_ref().map_or(&[][..], |last| &last.replicas[..]);
            if self.told_replicas.get(id).is_none_or(|told| told[..] != *replicas) {
                self.told_replicas.insert(*id, replicas.to_vec());
                sites.insert(view.record.site.clone());
            }
            let known = self.told_nodes.get(id).copied();
            if known == Some((capacity, state)) {
                continue;
            }
            sites.insert(view.record.site.clone());
            self.told_nodes.insert(*id, (capacity, state));
            if known.is_none() {
                self.add_node(now, *id, view, capacity);
            }
            let Some(number) = self.nodes.known(id) else { continue };
            let node = scheduler::NodeId(small(number));
            if known.is_some_and(|(before, _)| before != capacity) {
                self.scheduler.set_node_capacity(now, node, resources(capacity));
            }
            if known.map_or(NodeState::Ready, |(_, before)| before) != state {
                self.scheduler.set_node_state(now, node, state);
            }
        }
        sites
    }

    fn add_node(&mut self, now: Duration, id: NodeId, view: &NodeView, capacity: Capacity) {
        let (site, is_new) = self.sites.of(&view.record.site);
        if is_new {
            self.scheduler.add_site(SiteSettings::default());
        }
        let (class, _) = self.classes.of(&view.record.class);
        self.scheduler.add_node(now, SiteId(small(site)), class_id(class), resources(capacity));
        self.nodes.of(&id);
    }

    /// Meets tenants and releases before anybody asks for them; says which releases are new.
    fn number(&mut self, now: Duration, shown: &Shown<'_>) -> BTreeSet<ReleaseId> {
        let (mut new_releases, mut has_new_tenant) = (BTreeSet::new(), false);
        for record in shown.live().filter(|record| !self.epochs.contains_key(&record.id)) {
            has_new_tenant |= self.tenants.of(&quota_of(record).to_owned()).1;
            let played = (shown.played)(record);
            let (release, is_new) = self.releases.of(&release_name(record, &played));
            let release = ReleaseId(small(release));
            if is_new {
                new_releases.insert(release);
                self.contents.insert(release, played.content);
            }
        }
        if has_new_tenant || shown.is_whole {
            for (number, tenant) in self.tenants.names().to_vec().into_iter().enumerate() {
                let grant = grant(shown.grants.get(&tenant));
                if self.told_grants.get(&tenant) != Some(&grant) {
                    self.scheduler.set_grant(now, TenantId(small(number)), grant);
                    self.told_grants.insert(tenant, grant);
                }
            }
        }
        new_releases
    }

    /// Tells where releases are: all of these sites, and these releases of all sites.
    fn tell_presence(
        &mut self,
        now: Duration,
        shown: &Shown<'_>,
        sites: &BTreeSet<String>,
        releases: &BTreeSet<ReleaseId>,
    ) {
        if sites.is_empty() && releases.is_empty() {
            return;
        }
        for (number, name) in self.sites.names().to_vec().iter().enumerate() {
            for (release, content) in &self.contents {
                if !sites.contains(name) && !releases.contains(release) {
                    continue;
                }
                let presence = match content.as_ref().map(|content| replica_at(shown.nodes, name, content)) {
                    None | Some(ReplicaState::Present { .. }) => Presence::Present,
                    Some(_) => Presence::Fetchable,
                };
                let key = (SiteId(small(number)), *release);
                if self.told_presence.get(&key) != Some(&presence) {
                    self.told_presence.insert(key, presence);
                    self.scheduler.set_presence(now, key.0, key.1, Some(presence));
                }
            }
        }
    }

    /// What has a node is counted there; what has lost it goes before all others.
    fn adopt(&mut self, now: Duration, shown: &Shown<'_>) {
        self.take_back(now, shown);
        for record in shown.live() {
            match (record.node.and_then(|id| self.nodes.known(&id)), record.state) {
                // Its place is another's already.
                (Some(_), _) if self.warm.is_claimed(record.id) => {}
                (Some(node), state) if !self.knows(record) => {
                    let offered_until = match state {
                        SessionState::Offered { until } => Some(self.time(until)),
                        _ => None,
                    };
                    let (session, request) = self.request(record, shown);
                    self.scheduler.adopt(now, session, request, scheduler::NodeId(small(node)), offered_until);
                }
                (Some(_), SessionState::Offered { .. }) => {}
                (Some(_), _) => {
                    // Its player took what was offered.
                    if let Some(session) = self.session(record.id) {
                        self.scheduler.accept(session);
                    }
                }
                (None, _) => {}
            }
        }
        for record in shown.live().filter(|record| matches!(record.state, SessionState::Recovering { .. })) {
            let known = self.epochs.get(&record.id).copied();
            if known == Some(record.epoch) && self.knows(record) {
                continue;
            }
            let (session, request) = self.request(record, shown);
            if self.scheduler.node_of(session).is_some() {
                self.scheduler.recover(now, session);
            } else {
                self.scheduler.adopt_lost(now, session, request);
            }
        }
    }

    /// Those who have no place ask for one, in the order in which they came.
    fn ask(&mut self, now: Duration, shown: &Shown<'_>) -> Vec<Act> {
        let mut refused = Vec::new();
        for record in shown.live() {
            let asks = matches!(record.state, SessionState::Requested | SessionState::Queued { .. });
            if !asks || self.knows(record) {
                continue;
            }
            let (session, request) = self.request(record, shown);
            if self.take_over(now, record, session, &request) {
                continue;
            }
            let refusal = if record.pool.is_some() {
                // A warm instance waits for nothing: somebody who plays would wait behind it.
                self.scheduler.place(now, session, request).err()
            } else {
                match self.scheduler.ask(now, session, request) {
                    Decision::Placed { why, .. } => {
                        self.whys.insert(record.id, why);
                        None
                    }
                    Decision::Waits { .. } => {
                        self.whys.remove(&record.id);
                        self.warm.asked(record.id);
                        None
                    }
                    Decision::Refused { why, .. } => Some(why),
                }
            };
            if let Some(why) = refusal {
                let why = with_ways(self.verdicts(&why), &record.probes);
                refused.push(Act::End { session: record.id, reason: EndReason::NoPlace, why });
            }
        }
        refused
    }

    /// Warm instances whose claims have come to nothing are nobody's again.
    fn take_back(&mut self, now: Duration, shown: &Shown<'_>) {
        for id in self.warm.take_released() {
            let Some(record) = (shown.record)(id).filter(|record| !self.knows(record)) else { continue };
            let Some(node) = record.node.and_then(|id| self.nodes.known(&id)) else { continue };
            let (session, request) = self.request(&record, shown);
            self.scheduler.adopt(now, session, request, scheduler::NodeId(small(node)), None);
            self.warm.see(&record);
        }
    }

    /// A claim found no room: its session asks again with the next whole look, and nobody tries that instance any more.
    pub(crate) fn claim_failed(&mut self, now: UtcTime, id: SessionId) {
        let now = self.time(now);
        self.warm.spoil(id);
        self.epochs.remove(&id);
        self.whys.remove(&id);
        if let Some(session) = self.session(id) {
            self.scheduler.end(now, session);
        }
    }

    /// Gives a session a warm instance, where there is one that would do.
    fn take_over(
        &mut self,
        now: Duration,
        record: &SessionRecord,
        session: scheduler::SessionId,
        request: &Request,
    ) -> bool {
        if record.pool.is_some() {
            return false;
        }
        let warm = self.warm.for_session(record);
        let numbers: Vec<_> = warm.iter().filter_map(|id| self.session(*id)).collect();
        let Some(taken) = self.scheduler.take_over(now, session, request, &numbers) else { return false };
        self.whys.insert(record.id, taken.why);
        if let Some(of) = self.sessions.id(taken.of) {
            self.warm.forget(of);
            self.warm.claim(record.id, of);
        }
        true
    }

    /// The number of a session, and what it asks for. Notes that the scheduler knows it.
    fn request(&mut self, record: &SessionRecord, shown: &Shown<'_>) -> (scheduler::SessionId, Request) {
        let session = self.sessions.of(record.id);
        self.epochs.insert(record.id, record.epoch);
        let played = (shown.played)(record);
        let (tenant, _) = self.tenants.of(&quota_of(record).to_owned());
        let (release, _) = self.releases.of(&release_name(record, &played));
        // Names come from tenants: only those of machines are numbered. What no machine has is refused by every site.
        let class = self.classes.known(&played.class).unwrap_or(usize::MAX);
        let (probes, most_round_trip) = ways(&record.probes, self.sites.names(), self.unknown_round_trip);
        let sites = played.site.map(|site| self.sites.known(&site).map(|number| SiteId(small(number))));
        let request = Request {
            tenant: TenantId(small(tenant)),
            release: ReleaseId(small(release)),
            class: class_id(class),
            resources: self.need(record, shown),
            priority: Priority::default(),
            // It goes before anybody who plays.
            is_trial: record.pool.is_some(),
            probes,
            sites: sites.map(|site| site.into_iter().collect()),
            most_round_trip,
            patience: shown.patience.saturating_sub(shown.now.since(record.created_at)),
        };
        (session, request)
    }

    /// What the scheduler gave up. What it gave is compared below, so that nothing is lost when it cannot be written.
    fn hear(&mut self, shown: &Shown<'_>) -> Vec<Act> {
        let mut acts = Vec::new();
        for event in self.scheduler.take_events() {
            let (number, lapsed) = match event {
                Event::GaveUp { session } => (session, false),
                Event::OfferLapsed { session } => (session, true),
                // The only trials yet are warm instances, and nobody has to be warned there.
                Event::Warned { session, .. } | Event::MustEnd { session } => {
                    if let Some(id) = self.sessions.id(session) {
                        self.warm.give_up(id);
                    }
                    continue;
                }
                Event::Reprieved { session } => {
                    if let Some(id) = self.sessions.id(session) {
                        self.warm.reprieve(id);
                    }
                    continue;
                }
                // A placement is seen where it is compared.
                Event::Placed { .. } => continue,
            };
            let Some(id) = self.sessions.id(number) else { continue };
            self.epochs.remove(&id);
            let was_playing =
                (shown.record)(id).is_some_and(|record| matches!(record.state, SessionState::Recovering { .. }));
            let reason = match (lapsed, was_playing) {
                (_, true) => EndReason::NodeLost,
                (true, false) => EndReason::OfferLapsed,
                (false, false) => EndReason::QueueTimeout,
            };
            acts.push(Act::End { session: id, reason, why: Vec::new() });
        }
        acts
    }

    /// What rows have to become, and how waits stand.
    fn compare(&mut self, shown: &Shown<'_>, said: &mut Said) {
        // Said until it is written. What was to be placed is not, then: of each session there is one act.
        let giving_up = self.warm.giving_up().clone();
        said.acts.extend(giving_up.iter().map(|session| Act::GiveUp { session: *session }));
        for id in self.waits.difference(&giving_up).copied().collect::<Vec<_>>() {
            let Some(session) = self.session(id) else { continue };
            if let Some(node) = self.scheduler.node_of(session) {
                if let Some(record) = (shown.record)(id) {
                    self.placed(&record, session, node, shown.now, said);
                }
                continue;
            }
            let Some(record) = (shown.record)(id) else { continue };
            let begins = record.state == SessionState::Requested;
            if !(begins || shown.tells_waits) {
                continue;
            }
            let Some(waiting) = self.scheduler.waiting(session) else { continue };
            let cause = view::cause(&waiting.reason);
            let lost = matches!(record.state, SessionState::Recovering { .. });
            if !lost && record.state != (SessionState::Queued { cause }) {
                said.acts.push(Act::Queue { session: id, cause });
            }
            let sites = with_ways(self.verdicts(&self.scheduler.explain(session)), &record.probes);
            said.waits.push((id, view::place(&waiting, sites)));
        }
    }

    fn placed(
        &mut self,
        record: &SessionRecord,
        session: scheduler::SessionId,
        node: scheduler::NodeId,
        now: UtcTime,
        said: &mut Said,
    ) {
        let Some(id) = self.nodes.name(node.0 as usize).copied() else { return };
        // Who waited for it knows where it is; of the others nothing is known any more.
        let why = self.whys.get(&record.id).map_or_else(|| self.chosen(node), |why| self.verdicts(why));
        let why = with_ways(why, &record.probes);
        let demand = self.scheduler.resources_of(session).map(demand::of).unwrap_or_default();
        let session_id = record.id;
        if let Some(warm) = self.warm.claimed_by(session_id) {
            said.acts.push(Act::Claim { session: session_id, node: id, warm, demand, why });
            return;
        }
        match (self.scheduler.offered_until(session), record.state) {
            // A warm instance made room for it a moment ago: nobody went away meanwhile.
            (Some(_), _) if self.warm.is_promised(session_id, now) => {
                self.scheduler.accept(session);
                said.acts.push(Act::Reserve { session: session_id, node: id, demand, why });
            }
            (Some(until), SessionState::Requested | SessionState::Queued { .. }) => {
                let until = self.began.plus(until);
                said.acts.push(Act::Offer { session: session_id, node: id, demand, until, why });
            }
            // Who was thrown out of his game need not be asked whether he wants it back.
            (Some(_), _) => {
                self.scheduler.accept(session);
                said.acts.push(Act::Reserve { session: session_id, node: id, demand, why });
            }
            (None, _) => said.acts.push(Act::Reserve { session: session_id, node: id, demand, why }),
        }
    }
}

/// True for a row that waits for a place.
fn wants_place(record: &SessionRecord) -> bool {
    matches!(record.state, SessionState::Requested | SessionState::Queued { .. } | SessionState::Recovering { .. })
}

/// Why a node takes sessions or not.
fn state(view: &NodeView) -> NodeState {
    match (view.record.duty, view.health) {
        (_, Health::Lost) | (Duty::Retired, _) => NodeState::Lost,
        (_, Health::Suspect | Health::Awaited) => NodeState::Suspect,
        (Duty::Cordoned | Duty::Draining, Health::Alive) => NodeState::Cordoned,
        (Duty::Active, Health::Alive) if view.refuses().is_some() => NodeState::Cordoned,
        (Duty::Active, Health::Alive) => NodeState::Ready,
    }
}

/// Whose quota it uses: warm instances use nobody's, and no tenant has this name.
fn quota_of(record: &SessionRecord) -> &str {
    if record.pool.is_some() { "" } else { &record.tenant }
}

fn release_name(record: &SessionRecord, played: &Played) -> String {
    played.content.as_ref().map_or_else(|| format!("directory {}", record.app), |content| content.as_str().to_owned())
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn class_id(number: usize) -> ClassId {
    ClassId(u16::try_from(number).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests;
