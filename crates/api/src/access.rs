//! Who may do what: roles, the rights that they are, keys, and the record of what was changed.
//!
//! A key is a bearer token of a program or a person. It belongs to one tenant, or to the operator, and does what its role may do, or less.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::id::{AuditId, KeyId};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $said:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[doc = $said])+ $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in JSON and SQL.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// From the word; `None` for a word that is none of ours.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::from_word(text).ok_or_else(|| {
                    let words: Vec<&str> = Self::ALL.iter().map(|one| one.word()).collect();
                    format!("expected one of {}", words.join(", "))
                })
            }
        }
    };
}

words! {
    /// What somebody is to a tenant, or to the installation.
    Role {
        /// Runs the installation. May do everything, for every tenant.
        Operator = "operator",
        /// Answers for the tenant: all that a tenant may do, keys included.
        Owner = "owner",
        /// Uploads and releases apps, launches sessions of them, and looks into them.
        Developer = "developer",
        /// Helps players: sees sessions, launches them, and has commands done in them, `stop` among them.
        Support = "support",
        /// Orders, and reads what was used and what it costs.
        Finance = "finance",
    }
}

words! {
    /// Something that may be done, of all that belongs to one tenant.
    Right {
        /// See releases, channels, copies on sites.
        AppsRead = "apps_read",
        /// Upload, release, promote, roll back, remove.
        AppsWrite = "apps_write",
        /// See sessions.
        SessionsRead = "sessions_read",
        /// Launch sessions for players. They are ended by a command.
        SessionsWrite = "sessions_write",
        /// Have commands done in instances, and see what they brought.
        Commands = "commands",
        /// See orders, what was used, invoices.
        MoneyRead = "money_read",
        /// Order, cancel, change.
        MoneyWrite = "money_write",
        /// Make and revoke the tenant's keys.
        Keys = "keys",
        /// Change the tenant's own settings.
        TenantWrite = "tenant_write",
        /// Read who changed what.
        AuditRead = "audit_read",
    }
}

impl Right {
    /// True for one that changes something: a tenant that is suspended has none of these.
    #[must_use]
    pub const fn changes(self) -> bool {
        match self {
            Self::AppsWrite
            | Self::SessionsWrite
            | Self::Commands
            | Self::MoneyWrite
            | Self::Keys
            | Self::TenantWrite => true,
            Self::AppsRead | Self::SessionsRead | Self::MoneyRead | Self::AuditRead => false,
        }
    }
}

impl Role {
    /// True for what somebody of a tenant may be.
    #[must_use]
    pub const fn is_of_tenant(self) -> bool {
        match self {
            Self::Operator => false,
            Self::Owner | Self::Developer | Self::Support | Self::Finance => true,
        }
    }

    /// All that one of this role may do.
    #[must_use]
    pub fn rights(self) -> BTreeSet<Right> {
        let rights: &[Right] = match self {
            Self::Operator | Self::Owner => Right::ALL,
            Self::Developer => {
                &[Right::AppsRead, Right::AppsWrite, Right::SessionsRead, Right::SessionsWrite, Right::Commands]
            }
            Self::Support => &[Right::AppsRead, Right::SessionsRead, Right::SessionsWrite, Right::Commands],
            Self::Finance => &[Right::SessionsRead, Right::MoneyRead, Right::MoneyWrite],
        };
        rights.iter().copied().collect()
    }
}

/// Longest name of a key in characters.
pub const MAX_KEY_NAME: usize = 60;

/// Longest life of a key in seconds that may be asked for: ten years. One without an end has none.
pub const MAX_KEY_LIFE_S: u32 = 10 * 366 * 24 * 3600;

/// Makes a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What people call it, 1 to 60 characters: where it is used.
    pub name: String,
    /// Whose it is. Default: of the tenant who asks; the operator's own when the operator asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Of the role's rights only these. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<BTreeSet<Right>>,
    /// For how many seconds it is good. Default: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u32>,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// Whose it is; absent for the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Its role.
    pub role: Role,
    /// What it may do.
    pub rights: BTreeSet<Right>,
    /// The last four characters of its secret, by which people find it again.
    pub ends_with: String,
    /// When it was made.
    pub created_at: UtcTime,
    /// Until when it is good; absent for one without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcTime>,
    /// When it was used last, to a minute; absent for one that never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<UtcTime>,
    /// Since when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<UtcTime>,
}

/// Keys, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyList {
    /// Also those that are revoked or expired.
    pub keys: Vec<Key>,
}

/// A new key.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedKey {
    /// It.
    pub key: Key,
    /// The secret, a bearer token. It is shown once; the server keeps a hash.
    pub secret: String,
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Who the bearer of a token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Bearer {
    /// The role.
    pub role: Role,
    /// The tenant; absent for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The key; absent for the operator's token of the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// What may be done with it.
    pub rights: BTreeSet<Right>,
}

words! {
    /// What kind of somebody changed something.
    ActorKind {
        /// The bearer of the operator's token of the data directory.
        Operator = "operator",
        /// The bearer of a key.
        Key = "key",
        /// A player.
        Player = "player",
    }
}

/// Who changed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Actor {
    /// What kind of somebody.
    pub kind: ActorKind,
    /// The key's or the player's id; absent for the operator's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The key's name at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A change: who made it, when, of what, and what was before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Its id. Ids sort by time.
    pub id: AuditId,
    /// When.
    pub at: UtcTime,
    /// Who.
    pub actor: Actor,
    /// Of which tenant it was; absent for what belongs to the installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What was done: a noun and a verb.
    #[schema(example = "key.create")]
    pub action: String,
    /// To what: an id or a name.
    pub target: String,
    /// As it was; absent for what was not there. Secrets are never in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// As it is since; absent for what is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
}

/// Changes, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditList {
    /// As many as were asked for, or all that there are.
    pub entries: Vec<AuditEntry>,
}

/// Most changes of one answer.
pub const MAX_AUDIT_ENTRIES: u32 = 200;

/// Changes of an answer when nothing else is asked for.
pub const DEFAULT_AUDIT_ENTRIES: u32 = 50;

/// Which changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditPage {
    /// Those of this tenant. Default: all that the caller may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Those before this one: the last of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<AuditId>,
    /// At most so many: 1 to 200. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_what_they_need_and_no_more() {
        let check = |role: Role, right: Right, expected: bool| {
            assert_eq!(role.rights().contains(&right), expected, "{role} {right}");
        };
        for right in Right::ALL {
            check(Role::Owner, *right, true);
            check(Role::Operator, *right, true);
        }
        check(Role::Developer, Right::AppsWrite, true);
        check(Role::Developer, Right::MoneyRead, false);
        check(Role::Developer, Right::Keys, false);
        check(Role::Support, Right::Commands, true);
        check(Role::Support, Right::AppsWrite, false);
        check(Role::Finance, Right::MoneyWrite, true);
        check(Role::Finance, Right::Commands, false);
    }

    #[test]
    fn words_are_those_of_json() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.word());
            assert_eq!(role.word().parse(), Ok(*role));
        }
        for right in Right::ALL {
            assert_eq!(serde_json::to_value(right).unwrap(), right.word());
            assert_eq!(Right::from_word(right.word()), Some(*right));
        }
        assert!("owners".parse::<Role>().is_err_and(|error| error.contains("operator, owner")));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = Key {
            id: KeyId::from_uuid(uuid::Uuid::nil()),
            name: "build".to_owned(),
            tenant: None,
            role: Role::Owner,
            rights: BTreeSet::new(),
            ends_with: "beef".to_owned(),
            created_at: UtcTime::from_unix_ms(0),
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        };
        let created = CreatedKey { key, secret: "ktn_sesame".to_owned() };
        assert!(!format!("{created:?}").contains("sesame"));
    }
}
