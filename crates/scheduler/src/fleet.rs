//! Sites, their nodes by hardware class, what of them is free, and which releases are where.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::request::{ClassId, NodeId, ReleaseId, SessionId, SiteId};
use crate::resources::{Dimension, Resources, WHOLE_SHARE};

/// What a node is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Takes sessions.
    Ready,
    /// Was not heard of in time: nothing new goes there, what runs is left alone.
    Suspect,
    /// Somebody said that nothing new shall go there: before maintenance, or for good.
    Cordoned,
    /// Gone, for certain.
    Lost,
}

/// What a site has of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Not there, but it may be brought when somebody plays it: a little worse than a site that has it.
    Fetchable,
    /// On its way, and nobody is to wait for it there.
    Arriving {
        /// Thousandths that are there.
        permille: u16,
    },
    /// Whole.
    Present,
}

/// Which node of a site is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// The fullest that has room: whole nodes stay free for large sessions, or can be switched off.
    #[default]
    Pack,
    /// The emptiest: sessions disturb one another least, and a lost node loses fewest.
    Spread,
}

/// What is said of a site when it is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteSettings {
    /// What an hour of a session costs there, in any unit that is the same for all.
    pub cost: u32,
    /// How its nodes are filled.
    pub packing: Packing,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) site: SiteId,
    pub(crate) class: ClassId,
    pub(crate) capacity: Resources,
    pub(crate) used: Resources,
    pub(crate) state: NodeState,
    pub(crate) sessions: BTreeSet<SessionId>,
}

impl Node {
    fn free(&self) -> Resources {
        self.capacity.minus(&self.used)
    }

    fn free_share(&self) -> u32 {
        self.free().least_share_of(&self.capacity)
    }
}

/// Nodes that became freer since it was proven that something fits nowhere. More are looked at each time, fewer make all be looked at sooner.
const MOST_FRESH: usize = 64;

/// Needs that are known to fit nowhere. More remember more specs, each costs a comparison.
const MOST_UNFIT: usize = 16;

/// The nodes of one class at one site.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    /// Those that are ready, by the share that is free.
    ready: BTreeSet<(u32, NodeId)>,
    /// Sum of these shares.
    free_sum: u64,
    /// Kinds of nodes, and how many there are of each, in whatever state.
    shapes: BTreeMap<[u32; 6], (Resources, u32)>,
    /// What fits on no node, but perhaps on a fresh one.
    unfit: Vec<Resources>,
    fresh: BTreeSet<NodeId>,
    /// Sessions.
    pub(crate) running: u32,
}

impl Pool {
    /// Used thousandths of what is ready.
    pub(crate) fn load_permille(&self) -> u32 {
        let whole = self.ready.len() as u64 * u64::from(WHOLE_SHARE);
        (whole - self.free_sum.min(whole)).saturating_mul(1000).checked_div(whole).map_or(1000, |load| load as u32)
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn is_ever(&self, need: &Resources) -> Result<(), Dimension> {
        let mut lacking = Dimension::Sessions;
        for (shape, _) in self.shapes.values() {
            match need.lacks(shape) {
                None => return Ok(()),
                Some(dimension) => lacking = dimension,
            }
        }
        Err(lacking)
    }

    fn insert(&mut self, id: NodeId, node: &Node) {
        let share = node.free_share();
        if node.state == NodeState::Ready && self.ready.insert((share, id)) {
            self.free_sum += u64::from(share);
        }
    }

    fn remove(&mut self, id: NodeId, node: &Node) {
        let share = node.free_share();
        if self.ready.remove(&(share, id)) {
            self.free_sum -= u64::from(share);
        }
    }

    fn add_shape(&mut self, capacity: &Resources) {
        self.shapes.entry(capacity.amounts()).or_insert((*capacity, 0)).1 += 1;
    }

    fn remove_shape(&mut self, capacity: &Resources) {
        if let Some((_, count)) = self.shapes.get_mut(&capacity.amounts()) {
            *count -= 1;
            if *count == 0 {
                self.shapes.remove(&capacity.amounts());
            }
        }
    }

    fn became_freer(&mut self, id: NodeId) {
        self.fresh.insert(id);
        if self.fresh.len() > MOST_FRESH {
            self.fresh.clear();
            self.unfit.clear();
        }
    }
}

#[derive(Clone, Debug)]
struct Site {
    settings: SiteSettings,
    pools: BTreeMap<ClassId, Pool>,
    releases: HashMap<ReleaseId, Presence>,
}

/// All sites. Numbers of sites and nodes are given once and stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet {
    sites: Vec<Site>,
    nodes: Vec<Node>,
}

impl Fleet {
    pub(crate) fn add_site(&mut self, settings: SiteSettings) -> SiteId {
        let id = SiteId(u32::try_from(self.sites.len()).unwrap_or(u32::MAX));
        self.sites.push(Site { settings, pools: BTreeMap::new(), releases: HashMap::new() });
        id
    }

    pub(crate) fn sites(&self) -> impl Iterator<Item = SiteId> + use<> {
        (0..u32::try_from(self.sites.len()).unwrap_or(u32::MAX)).map(SiteId)
    }

    pub(crate) fn cost(&self, site: SiteId) -> u32 {
        self.sites[site.0 as usize].settings.cost
    }

    pub(crate) fn pool(&self, site: SiteId, class: ClassId) -> Option<&Pool> {
        self.sites[site.0 as usize].pools.get(&class)
    }

    pub(crate) fn presence(&self, site: SiteId, release: ReleaseId) -> Option<Presence> {
        self.sites[site.0 as usize].releases.get(&release).copied()
    }

    pub(crate) fn set_presence(&mut self, site: SiteId, release: ReleaseId, presence: Option<Presence>) {
        let releases = &mut self.sites[site.0 as usize].releases;
        match presence {
            Some(presence) => releases.insert(release, presence),
            None => releases.remove(&release),
        };
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn add_node(&mut self, site: SiteId, class: ClassId, capacity: Resources) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let (used, sessions) = (Resources::default(), BTreeSet::new());
        let node = Node { site, class, capacity, used, state: NodeState::Ready, sessions };
        let pool = self.sites[site.0 as usize].pools.entry(class).or_default();
        pool.add_shape(&capacity);
        pool.insert(id, &node);
        pool.became_freer(id);
        self.nodes.push(node);
        id
    }

    /// Changes a node and what is kept of it elsewhere.
    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let node = &mut self.nodes[id.0 as usize];
        let Some(pool) = self.sites[node.site.0 as usize].pools.get_mut(&node.class) else { return };
        pool.remove(id, node);
        let (before, sessions) = (node.capacity, node.sessions.len());
        change(node);
        pool.running = (pool.running + node.sessions.len() as u32).saturating_sub(sessions as u32);
        if node.capacity != before {
            pool.remove_shape(&before);
            pool.add_shape(&node.capacity);
        }
        pool.insert(id, node);
    }

    fn freed(&mut self, id: NodeId) {
        let node = &self.nodes[id.0 as usize];
        if let Some(pool) = self.sites[node.site.0 as usize].pools.get_mut(&node.class) {
            pool.became_freer(id);
        }
    }

    pub(crate) fn set_state(&mut self, id: NodeId, state: NodeState) {
        self.change(id, |node| node.state = state);
        self.freed(id);
    }

    pub(crate) fn set_capacity(&mut self, id: NodeId, capacity: Resources) {
        self.change(id, |node| node.capacity = capacity);
        self.freed(id);
    }

    pub(crate) fn reserve(&mut self, id: NodeId, session: SessionId, need: &Resources) {
        self.change(id, |node| {
            node.used = node.used.plus(need);
            node.sessions.insert(session);
        });
    }

    pub(crate) fn release(&mut self, id: NodeId, session: SessionId, need: &Resources) {
        self.change(id, |node| {
            node.used = node.used.minus(need);
            node.sessions.remove(&session);
        });
        self.freed(id);
    }

    /// A ready node with room.
    pub(crate) fn find(&mut self, site: SiteId, class: ClassId, need: &Resources) -> Option<NodeId> {
        let site = &mut self.sites[site.0 as usize];
        let pool = site.pools.get_mut(&class)?;
        let nodes = &self.nodes;
        let has_room = |(_, id): &&(u32, NodeId)| need.fits_in(&nodes[id.0 as usize].free());
        if pool.unfit.iter().any(|unfit| unfit.fits_in(need)) {
            let is_ready = |id: &&NodeId| nodes[id.0 as usize].state == NodeState::Ready;
            let fresh = pool.fresh.iter().filter(is_ready);
            return fresh.copied().find(|id| need.fits_in(&nodes[id.0 as usize].free()));
        }
        // A node of which at least this share is free has room; of the others only those that have little of what is not needed.
        let least = pool.shapes.values().map(|(shape, _)| need.share_of(shape)).min().unwrap_or(0);
        let found = match site.settings.packing {
            Packing::Pack => {
                let (sure, perhaps) = (pool.ready.range((least, NodeId(0))..), pool.ready.range(..(least, NodeId(0))));
                sure.into_iter().find(has_room).or_else(|| perhaps.rev().find(has_room))
            }
            Packing::Spread => pool.ready.iter().rev().find(has_room),
        };
        let found = found.map(|(_, id)| *id);
        if found.is_none() {
            if pool.unfit.len() >= MOST_UNFIT {
                pool.unfit.remove(0);
            }
            pool.unfit.push(*need);
        }
        found
    }

    /// Sessions at a site, on nodes in whatever state.
    pub(crate) fn running_at(&self, site: SiteId, class: ClassId) -> u32 {
        self.pool(site, class).map_or(0, |pool| pool.running)
    }

    /// Whether any node has room, looked at one by one.
    pub(crate) fn has_room(&self, site: SiteId, class: ClassId, need: &Resources) -> bool {
        let ready = self.pool(site, class).into_iter().flat_map(|pool| &pool.ready);
        ready.into_iter().any(|(_, id)| need.fits_in(&self.node(*id).free()))
    }

    /// Kinds of nodes.
    pub(crate) fn shapes(&self, site: SiteId, class: ClassId) -> Vec<[u32; 6]> {
        self.pool(site, class).map_or(Vec::new(), |pool| pool.shapes.keys().copied().collect())
    }

    /// Whether a node that takes sessions could take it when it is empty.
    pub(crate) fn has_ready_for(&self, site: SiteId, class: ClassId, need: &Resources) -> bool {
        let pool = self.pool(site, class);
        pool.is_some_and(|pool| pool.ready.iter().any(|(_, id)| need.fits_in(&self.node(*id).capacity)))
    }

    /// What there is too little of on the node with most room; `None` when it would fit.
    pub(crate) fn lacking(&self, site: SiteId, class: ClassId, need: &Resources) -> Option<Dimension> {
        let (_, id) = self.pool(site, class)?.ready.last()?;
        need.lacks(&self.node(*id).free())
    }

    pub(crate) fn is_ever(&self, site: SiteId, class: ClassId, need: &Resources) -> Result<(), Dimension> {
        self.pool(site, class).map_or(Err(Dimension::Sessions), |pool| pool.is_ever(need))
    }

    /// Says what is wrong with it.
    pub(crate) fn verify(&self) -> Result<(), String> {
        for (site, id) in self.sites.iter().zip(self.sites()) {
            for (class, pool) in &site.pools {
                let own = self.nodes.iter().zip(0..).filter(|(node, _)| node.site == id && node.class == *class);
                let ready = own.filter(|(node, _)| node.state == NodeState::Ready);
                let ready: BTreeSet<_> = ready.map(|(node, number)| (node.free_share(), NodeId(number))).collect();
                if ready != pool.ready {
                    return Err(format!("the nodes of {id:?} {class:?} are kept as they are not"));
                }
                let sum: u64 = ready.iter().map(|(share, _)| u64::from(*share)).sum();
                if sum != pool.free_sum {
                    return Err(format!("what is free at {id:?} {class:?} is {sum}, not {}", pool.free_sum));
                }
            }
        }
        Ok(())
    }
}
