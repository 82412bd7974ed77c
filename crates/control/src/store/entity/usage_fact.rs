//! Table `usage_fact`: what was told of each span of a session, a row for its opening, its last proof and its closing.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_fact")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub epoch: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub span: i32,
    /// `opened`, `extended` or `closed`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    pub at: i64,
    /// Why, of a closing.
    pub closing: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
