//! Table `join_token`: tokens by which machines join, until their time is over. Instants are milliseconds since 1970.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "join_token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub secret_hash: Vec<u8>,
    pub site: String,
    pub class: String,
    pub created_at: i64,
    pub expires_at: i64,
    /// The node that joined by it, and the hash of that one's key: it may not have heard the answer, and come again.
    pub node: Option<String>,
    pub key: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
