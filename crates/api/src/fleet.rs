//! The fleet as operators see it: nodes, sites, the tokens by which machines join, what tenants may use at once.

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::id::NodeId;
use crate::manifest::AppName;
use crate::rest::{QueuePlace, SiteVerdict};
use crate::spec::StreamSpec;

/// The hardware class of nodes of which nothing else is said, and of apps that name none.
pub const STANDARD_CLASS: &str = "standard";

/// May this be the name of a site or a hardware class? 1 to 40 of `a-z`, `0-9` and `-`.
#[must_use]
pub fn is_place_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// What a node is used for, as the operator said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// It takes sessions.
    Active,
    /// Nothing new goes there; what runs goes on.
    Cordoned,
    /// Nothing new goes there, and what runs is moved: it is stopped, its save captured, and started again on another node.
    Draining,
    /// It is none of the fleet's any more, and may not come back without a new token.
    Retired,
}

impl Duty {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Cordoned, Self::Draining, Self::Retired];

    /// The word in JSON and SQL.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Retired => "retired",
        }
    }

    /// From the word; `None` for a word that is none of ours.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|duty| duty.word() == word)
    }
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It has not reported since the control plane began.
    #[default]
    Awaited,
    /// It reports.
    Alive,
    /// It was not heard of in time: nothing new goes there, what runs there is left alone.
    Suspect,
    /// It is gone, for certain: its sessions are started elsewhere.
    Lost,
}

/// A machine of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub site: String,
    /// Its hardware class.
    pub class: String,
    /// What it is used for.
    pub duty: Duty,
    /// Whether it is well.
    pub health: Health,
    /// Why it takes no session now although it is active and alive; absent when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<String>,
    /// Sessions that it can hold.
    pub places: u32,
    /// Sessions that it has.
    pub sessions: u32,
    /// What it has of the rest; absent of what it does not limit.
    #[serde(default)]
    pub capacity: Amounts,
    /// What its sessions take of it, as they were placed or were measured since.
    #[serde(default)]
    pub used: Amounts,
    /// When it joined.
    pub joined_at: UtcTime,
}

/// Amounts of what sessions take of a node, besides places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Amounts {
    /// Thousandths of a processor. A node may sell more than it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Thousands of pixels that are encoded a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_kpixels: Option<u32>,
    /// Kilobits a second to players.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_kbps: Option<u32>,
}

/// What was learnt of what sessions of an app take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AppDemand {
    /// The app.
    pub app: AppName,
    /// Its release; absent for the directory of an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u32>,
    /// At this size and rate.
    pub spec: StreamSpec,
    /// What the next session is placed with, once this is settled. Of the encoder what the spec may need.
    pub takes: Amounts,
    /// Measured for a minute or longer. Before that sessions are placed with a guess, or with this where it is more.
    pub is_settled: bool,
    /// Sessions that were measured to their end.
    pub sessions: u32,
    /// When it was measured last.
    pub measured_at: UtcTime,
}

/// All that was learnt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DemandList {
    /// By app, release and spec.
    pub demands: Vec<AppDemand>,
}

/// What was forgotten of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForgottenDemands {
    /// Of so many releases and specs something was known.
    pub forgotten: u32,
}

/// All nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeList {
    /// The oldest first.
    pub nodes: Vec<Node>,
}

/// Changes what a node is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDuty {
    /// To this.
    pub duty: Duty,
}

/// Asks for a token by which one machine may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateJoinToken {
    /// The site that it joins: 1 to 40 of `a-z`, `0-9`, `-`. A new name makes a new site.
    pub site: String,
    /// Its hardware class, of the same letters. Default: `standard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// A token by which one machine may join, once.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedJoinToken {
    /// The text for `kite node --join`. Shown once; the server keeps a hash.
    pub token: String,
    /// When it ends.
    pub expires_at: UtcTime,
}

impl std::fmt::Debug for CreatedJoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedJoinToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What a tenant may use at once, on all sites together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantGrant {
    /// Sessions for which it goes before those that borrow.
    pub guarantee: u32,
    /// Sessions beyond, while nobody who is under his guarantee waits for the same place. Default: 0.
    #[serde(default)]
    pub borrow: u32,
    /// Never more. Default: guarantee and borrow together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<u32>,
    /// Its share of what becomes free, against the others that wait: twice the weight is served twice as often. Default: 1.
    #[serde(default = "one")]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

/// Where a session is, or why it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Placement {
    /// Its node; absent while it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Which start of its game this is: counts up with each node that was lost.
    pub epoch: u32,
    /// How its wait stands; absent when it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePlace>,
    /// What each site said when it was placed or refused.
    pub sites: Vec<SiteVerdict>,
}
