//! Table `session_save`: with which version of a save a session begins, and which others it joins. Rows go with their sessions.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session_save")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session: String,
    pub player_id: String,
    pub app: String,
    pub start: Option<String>,
    /// Ids of the other newest versions, which the player left aside, with spaces between.
    pub merges: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
