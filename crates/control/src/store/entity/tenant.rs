//! Table `tenant`: one row a tenant.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub created_at: i64,
    pub state: String,
    pub title: String,
    pub time_zone: String,
    pub currency: String,
    pub colour: Option<String>,
    /// Limits; null: as much as the installation allows.
    pub sessions_per_player: Option<i64>,
    pub releases_mb: Option<i64>,
    /// What it may use at once; all four are null until something is set: then there is no bound.
    pub guarantee: Option<i64>,
    pub borrow: Option<i64>,
    pub maximum: Option<i64>,
    pub weight: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
