//! Table `pool`: one row a pool of warm instances. Instants are milliseconds since 1970.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pool")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub app: String,
    pub channel: String,
    pub site: String,
    pub width: i32,
    pub height: i32,
    pub frames_per_second: i32,
    pub size: i32,
    pub lifetime_s: i32,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
