//! The fleet, for the operator: nodes and what they are used for, and what tenants may use at once.

use std::time::Duration;

use api::fleet::{CreateJoinToken, CreatedJoinToken, Duty, Node, NodeList, STANDARD_CLASS, TenantGrant, is_place_name};
use api::id::NodeId;
use api::node::{Capacity, NodeRefusal};
use api::problem::{Problem, ProblemKind};
use serde_json::json;
use tracing::info;

use super::access::{Caller, operator};
use super::demands;
use super::releases::LOCAL_SITE;
use super::{Plane, broken, now};
use crate::coordinator::fleet::NodeView;
use crate::store::{JoinPlace, NodeRecord, StoreError};

/// How long a join token is good: a machine is set up in an hour.
const JOIN_TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// Most sessions of a grant: more than any fleet has.
const MOST_GRANTED: u32 = 10_000_000;

impl Plane {
    /// Takes in all nodes that are known, and the one in this process.
    pub(crate) async fn gather(&self) -> Result<(), StoreError> {
        if let Some(id) = self.settings.embedded {
            let nothing = Capacity::default();
            let (name, site, class) =
                ("this machine".to_owned(), LOCAL_SITE.to_owned(), self.settings.embedded_class.clone());
            let record = NodeRecord { id, name, site, class, duty: Duty::Active, capacity: nothing, joined_at: now() };
            self.store.add_node(&record).await?;
        }
        for record in self.store.nodes().await? {
            self.coordinator.fleet.add(record);
        }
        Ok(())
    }

    /// All nodes.
    pub(crate) async fn list_nodes(&self, caller: &Caller) -> Result<NodeList, Problem> {
        operator(caller)?;
        let mut nodes = Vec::new();
        for view in self.coordinator.fleet.nodes().into_values() {
            nodes.push(self.node_view(&view));
        }
        nodes.sort_by_key(|node: &Node| (node.joined_at, node.id));
        Ok(NodeList { nodes })
    }

    fn node_view(&self, view: &NodeView) -> Node {
        let sessions = self.store.live.of_node(view.record.id);
        Node {
            id: view.record.id,
            name: view.record.name.clone(),
            site: view.record.site.clone(),
            class: view.record.class.clone(),
            duty: view.record.duty,
            health: view.health,
            refuses: view.refuses().map(refusal),
            places: view.capacity().sessions,
            sessions: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
            capacity: demands::capacity(view.capacity()),
            used: demands::used(sessions.iter().map(AsRef::as_ref)),
            joined_at: view.record.joined_at,
        }
    }

    /// Changes what a node is used for.
    pub(crate) async fn set_duty(&self, caller: &Caller, id: &str, duty: Duty) -> Result<Node, Problem> {
        operator(caller)?;
        let unknown = || ProblemKind::NodeUnknown.because("No node has this id.");
        let id: NodeId = id.parse().map_err(|_no_id| unknown())?;
        let view = self.coordinator.fleet.node(id).ok_or_else(unknown)?;
        if view.record.duty == Duty::Retired && duty != Duty::Retired {
            return Err(ProblemKind::NodeUnknown.because("The node is retired: let its machine join anew."));
        }
        if !self.store.set_node_duty(id, duty).await.map_err(broken)? {
            return Err(unknown());
        }
        let (before, after) = (json!({"duty": view.record.duty}), json!({"duty": duty}));
        self.record(caller, None, "node.duty", id, Some(before), Some(after)).await;
        info!(node = %id, duty = duty.word(), "duty changed");
        self.coordinator.fleet.update(id, |record| record.duty = duty);
        let view = self.coordinator.fleet.node(id).ok_or_else(unknown)?;
        Ok(self.node_view(&view))
    }

    /// A token by which one machine may join.
    pub(crate) async fn create_join_token(
        &self,
        caller: &Caller,
        request: CreateJoinToken,
    ) -> Result<CreatedJoinToken, Problem> {
        operator(caller)?;
        let Some(authority) = self.authority else {
            return Err(ProblemKind::InvalidRequest
                .because("No node can join: the server listens for none. Start it with `--nodes ADDRESS`."));
        };
        let class = request.class.unwrap_or_else(|| STANDARD_CLASS.to_owned());
        for (what, name) in [("site", &request.site), ("class", &class)] {
            if !is_place_name(name) {
                let detail = format!("`{what}` is not 1 to 40 of `a-z`, `0-9` and `-`.");
                return Err(ProblemKind::InvalidRequest.because(detail));
            }
        }
        let token = link::JoinToken::generate(authority).map_err(|_none| ProblemKind::Internal.plain())?;
        let (at, place) = (now(), JoinPlace { site: request.site, class });
        let expires_at = at.plus(JOIN_TOKEN_LIFE);
        let hash = *token.secret_hash().bytes();
        self.store.forget_join_tokens(at).await.map_err(broken)?;
        self.store.add_join_token(hash, &place, at, expires_at).await.map_err(broken)?;
        let after = json!({"site": place.site, "class": place.class, "expires_at": expires_at});
        self.record(caller, None, "node.token", &place.site, None, Some(after)).await;
        info!(site = place.site, class = place.class, "join token made");
        Ok(CreatedJoinToken { token: token.to_string(), expires_at })
    }

    /// Sets what a tenant may use at once.
    pub(crate) async fn set_grant(
        &self,
        caller: &Caller,
        tenant: &str,
        grant: TenantGrant,
    ) -> Result<TenantGrant, Problem> {
        operator(caller)?;
        let most = [grant.guarantee, grant.borrow, grant.maximum.unwrap_or(0), grant.weight].into_iter().max();
        if grant.weight == 0 || most.is_some_and(|most| most > MOST_GRANTED) {
            let detail = format!("`weight` is at least 1, and no number is above {MOST_GRANTED}.");
            return Err(ProblemKind::InvalidRequest.because(detail));
        }
        let change = |before: Option<TenantGrant>| {
            let before = before.map(|grant| json!(grant));
            self.change(caller, Some(tenant.to_owned()), "tenant.grant", tenant, before, Some(json!(grant)))
        };
        if !self.store.set_grant(tenant, grant, change).await.map_err(broken)? {
            let tenant: String = tenant.chars().take(60).collect();
            return Err(ProblemKind::TenantUnknown.because(format!("No tenant is called `{tenant}`.")));
        }
        info!(tenant, ?grant, "grant changed");
        self.coordinator.stir_all();
        Ok(grant)
    }
}

fn refusal(refusal: &NodeRefusal) -> String {
    match refusal {
        NodeRefusal::DiskFull { free_mb, needed_mb } => {
            format!("{free_mb} MiB of its disk are free, and a session may need {needed_mb} MiB.")
        }
        NodeRefusal::Stopping => "It is being stopped.".to_owned(),
    }
}
