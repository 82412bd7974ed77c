//! Table `command`: one row a command, from its request to the end of its history. Instants are milliseconds since 1970.

#![expect(unreachable_pub, reason = "SeaORM derives public items from public ones alone")]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "command")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub session: String,
    /// The instance that it is for, and its epoch.
    pub instance: String,
    pub epoch: i32,
    /// Where the instance was; null where no node has to do anything.
    pub node: Option<String>,
    pub app: String,
    /// Whose session it is.
    pub tenant: String,
    /// Who asked: in which role, and of which name.
    pub role: String,
    pub subject: Option<String>,
    /// The word of the action.
    pub action: String,
    /// Of `exec`.
    pub script: Option<String>,
    /// Of `exec` its seconds, of `logs` its KiB.
    pub argument: Option<i32>,
    /// The word of the state.
    pub state: String,
    /// Of `done`.
    pub exit: Option<i32>,
    /// Of `failed`.
    pub why: Option<String>,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub duration_ms: Option<i64>,
    /// When it is closed at the latest.
    pub deadline_at: i64,
    /// What is in the table `command_output`; null when nothing is.
    pub output_kind: Option<String>,
    pub output_bytes: Option<i64>,
    pub cut_bytes: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
