//! Tenants: customers of the operator, whose apps are played.

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::manifest::AppName;

/// Longest title of a tenant in characters.
pub const MAX_TENANT_TITLE: usize = 80;

/// What a tenant is allowed at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// Everything that its keys may do.
    Active,
    /// Its people see everything and change nothing, and its apps are not started. What is played goes on.
    Suspended,
    /// Its keys are no keys any more, its apps are not started, and what was played has been ended. What it had is kept.
    Closed,
}

impl TenantState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Suspended, Self::Closed];

    /// The word in JSON and SQL.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
        }
    }

    /// From the word; `None` for a word that is none of ours.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// What one tenant may use at most, besides what it ordered. Absent: as much as the installation allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantLimits {
    /// Sessions of one of its players at once, of its apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_per_player: Option<u32>,
    /// Bytes of all its releases together, in MiB, each file counted as often as a release has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub releases_mb: Option<u64>,
}

/// What can be set of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantSettings {
    /// What people call it.
    pub title: String,
    /// Time zone of its days and months, as in the IANA database.
    #[schema(example = "Europe/Berlin")]
    pub time_zone: String,
    /// The currency of its prices, three letters of ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
    /// Its colour on pages, `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<String>,
    /// What it may use at most.
    #[serde(default)]
    pub limits: TenantLimits,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tenant {
    /// Its name in requests.
    pub name: AppName,
    /// What it is allowed at the moment.
    pub state: TenantState,
    /// What is set.
    pub settings: TenantSettings,
    /// When it was made.
    pub created_at: UtcTime,
}

/// Tenants, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantList {
    /// All.
    pub tenants: Vec<Tenant>,
}

/// Makes a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// 1 to 40 of `a-z`, `0-9` and `-`.
    pub name: AppName,
    /// What people call it, 1 to 80 characters. Default: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Default: `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Default: `EUR`. It cannot be changed later: what was billed stays what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// A new tenant.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedTenant {
    /// The tenant.
    pub name: AppName,
    /// The secret of its first key, whose role is `owner`. It is shown once; the server keeps a hash.
    pub token: String,
}

impl std::fmt::Debug for CreatedTenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedTenant").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Changes what is set of a tenant; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigureTenant {
    /// What people call it, 1 to 80 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Time zone of its days and months. What was billed stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Its colour on pages, `#rrggbb`; an empty text takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<String>,
    /// What it may use at most, all of it anew. The operator's to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<TenantLimits>,
}

/// Changes what a tenant is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTenantState {
    /// From now on.
    pub state: TenantState,
    /// Why, for the record: at most 400 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
