//! Table `upload_object`: objects that an upload wrote or is about to write, as `packs/ID`; the collector leaves them.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upload_object")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub upload: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub object: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
