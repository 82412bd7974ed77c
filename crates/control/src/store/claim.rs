//! Claims: who may ask for a session, and the place that it gets.

use sea_orm::{ActiveModelTrait, IntoActiveModel};

use super::save::{self, SaveRefusal, SaveRule};
use super::session::{SessionRecord, to_row};
use super::{Store, StoreError, player};

/// How much is asked for and used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Sessions that have a place.
    pub(crate) placed: u32,
    /// Sessions that wait for one.
    pub(crate) waiting: u32,
    /// Sessions of the address that asks, placed or not.
    pub(crate) of_address: u32,
    /// Sessions of the player who asks; 0 for nobody.
    pub(crate) of_player: u32,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claimed<R> {
    /// It was noted, and waits for its place.
    Yes,
    /// It was not admitted.
    Refused(R),
    /// Not with this save.
    Save(SaveRefusal),
    /// The session's player was erased meanwhile.
    PlayerGone,
}

impl Store {
    /// Adds a session that has no place yet, if `admit` agrees to what is used at that moment.
    pub(crate) async fn request<R>(
        &self,
        record: &SessionRecord,
        saves: Option<SaveRule>,
        admit: impl FnOnce(Usage) -> Result<(), R>,
    ) -> Result<Claimed<R>, StoreError> {
        // What a session's save begins with depends on many rows; all else on its player's, which is locked.
        let transaction = if saves.is_some() { self.begin().await? } else { self.write.begin_row().await? };
        self.check_term(&transaction).await?;
        if let Some(player) = record.player_id
            && !player::exists(&transaction, player).await?
        {
            transaction.rollback().await?;
            return Ok(Claimed::PlayerGone);
        }
        // Before the places: who holds the last one by the game that he wants to play here is told that.
        if let (Some(player), Some(rule)) = (record.player_id, saves)
            && let Err(refusal) = save::begin(&transaction, record.id, player, &record.app, rule).await?
        {
            transaction.rollback().await?;
            return Ok(Claimed::Save(refusal));
        }
        let admission = match self.live.admit(record, admit) {
            Ok(admission) => admission,
            Err(refusal) => {
                transaction.rollback().await?;
                return Ok(Claimed::Refused(refusal));
            }
        };
        to_row(record).into_active_model().insert(&transaction).await?;
        let uncertain = self.live.uncertain();
        transaction.commit().await?;
        uncertain.settle();
        admission.done();
        Ok(Claimed::Yes)
    }
}
