//! Table `session`: one row a session, from its claim to the end of its history. Instants are milliseconds since 1970.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub instance: String,
    pub epoch: i32,
    pub app: String,
    pub width: i32,
    pub height: i32,
    pub frames_per_second: i32,
    /// Of the three above, so that the sum is the database's.
    pub pixels_per_second: i64,
    pub resizable: bool,
    /// Keyed hash of the address that asked; the key lives as long as the process.
    #[sea_orm(column_name = "player")]
    pub address: String,
    /// Of the table `player`; of nobody when it is null.
    pub player_id: Option<String>,
    /// Where it is, or is to be; null while it waits.
    pub node: Option<String>,
    pub release: Option<String>,
    /// The word of the session's state.
    pub state: String,
    /// Of `preparing`: how far; of `queued`: the cause.
    pub stage: Option<String>,
    /// The state's instant: of `offered`, `recovering`, `ready`, `connected`, `reconnecting` and `ended`.
    pub instant: Option<i64>,
    /// Of `stopping` and `ended`.
    pub reason: Option<String>,
    /// True as soon as the node reported its instance.
    pub observed: bool,
    pub first_frame: bool,
    /// What the player is told of a save that was not kept.
    pub unsaved: Option<String>,
    pub revision: i64,
    pub created_at: i64,
    pub changed_at: i64,
    pub ends_at: i64,
    /// BLAKE3 of the token.
    pub token_hash: Vec<u8>,
    pub token_expires_at: i64,
    /// Whose quota it uses; null in rows of versions without queues.
    pub tenant: Option<String>,
    /// What each site said when it was placed or refused, as JSON.
    pub explanation: Option<String>,
    /// Starts beyond the first one that somebody asked for; the others were losses.
    pub asked_starts: i32,
    /// What it was placed with, or was measured to take since; 0 while it waits, and in rows of versions that did not measure.
    pub cpu_milli: i64,
    pub memory_mib: i64,
    pub egress_kbps: i64,
    /// Whose warm instance it is, until somebody has it; null of players' sessions.
    pub pool: Option<String>,
    /// What its client measured of the way to sites, as JSON; null where it measured nothing.
    pub probes: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
