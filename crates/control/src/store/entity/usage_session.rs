//! Table `usage_session`: one row a session that was ever played. It outlives the session's own.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session: String,
    pub tenant: String,
    pub app: String,
    pub release: Option<i64>,
    pub player: Option<String>,
    pub width: i32,
    pub height: i32,
    pub frames_per_second: i32,
    pub begun: i64,
    pub ended: Option<i64>,
    /// The last moment at which it was proven that it could be played.
    pub proven: i64,
    /// What was seen of it last, as `billing` writes it down.
    pub tracker: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
