//! Table `demand`: one row a kind of sessions that was measured. Instants are milliseconds since 1970.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "demand")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub app: String,
    /// 0 for the directory of an app: releases count up from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub release: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub width: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub height: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub frames_per_second: i32,
    pub cpu_milli: i64,
    pub memory_mib: i64,
    pub egress_kbps: i64,
    /// Measurements, and sessions that were measured to their end.
    pub samples: i64,
    pub sessions: i64,
    pub measured_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
