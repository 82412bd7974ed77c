//! Table `channel_change`: one row each time a channel was pointed somewhere; the newest of a channel counts.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "channel_change")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub app: String,
    pub channel: String,
    pub release: i64,
    pub changed_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
