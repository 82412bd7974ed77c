//! Table `node`: one row a machine that ever joined. Instants are milliseconds since 1970.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "node")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub name: String,
    pub site: String,
    pub class: String,
    /// `active`, `cordoned`, `draining` or `retired`.
    pub duty: String,
    /// What it said that it can hold.
    pub sessions: i64,
    pub pixels_per_second: i64,
    /// Null where it is not limited.
    pub cpu_milli: Option<i64>,
    pub memory_mib: Option<i64>,
    pub egress_kbps: Option<i64>,
    pub joined_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
