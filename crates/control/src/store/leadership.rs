//! Who leads, in the database: one replica at a time, each in a term of its own.
//!
//! The role itself is a lock that the server takes back when its holder is gone ([`super::Role::ControlPlane`]). The term fences: whoever led
//! before and has not noticed writes nothing any more that a newer leader would not know of.

use std::fmt;
use std::sync::atomic::Ordering;

use sea_orm::sea_query::LockType;
use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QuerySelect};

use super::entity::leadership::{Column, Entity, Model};
use super::{Store, StoreError};

/// The only row.
const ROW: i32 = 1;

/// The replica that leads.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Where it is reached.
    pub(crate) address: Option<String>,
    /// What shows it that a request was passed on by a replica.
    pub(crate) pass: [u8; 32],
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins a term. Whoever calls this has the role.
    pub(crate) async fn lead(&self, leader: &Leader) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        let before = Entity::find_by_id(ROW).lock_exclusive().one(&transaction).await?;
        let term = before.as_ref().map_or(0, |row| row.term) + 1;
        let row = Model { id: ROW, term, address: leader.address.clone(), pass: leader.pass.to_vec() };
        let row = row.into_active_model().reset_all();
        if before.is_some() {
            row.update(&transaction).await?;
        } else {
            row.insert(&transaction).await?;
        }
        transaction.commit().await?;
        self.term.store(term, Ordering::Relaxed);
        Ok(())
    }

    /// Who leads, or did last.
    pub(crate) async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        let Some(row) = Entity::find_by_id(ROW).one(&self.read).await? else { return Ok(None) };
        let pass = row
            .pass
            .try_into()
            .map_err(|_not_ours| StoreError::Unreadable { id: "leadership".to_owned(), column: "pass" })?;
        Ok(Some(Leader { address: row.address, pass }))
    }

    /// Part of a transaction that writes a session: nobody else has begun a term since.
    pub(super) async fn check_term(&self, connection: &impl ConnectionTrait) -> Result<(), StoreError> {
        let own = self.term.load(Ordering::Relaxed);
        if own == 0 {
            return Ok(());
        }
        let term: Option<i64> = Entity::find_by_id(ROW)
            .select_only()
            .column(Column::Term)
            // A new leader waits for transactions that have seen the old term, and reads what they wrote.
            .lock(LockType::KeyShare)
            .into_tuple()
            .one(connection)
            .await?;
        if term == Some(own) { Ok(()) } else { Err(StoreError::Deposed) }
    }
}
