//! Table `condemned`: objects that the collector is about to remove; nobody may begin to rely on one.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "condemned")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub object: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
