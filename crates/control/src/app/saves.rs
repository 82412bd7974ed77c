//! Players' saves: what a session begins with, what of it becomes a version, and what players do with their versions.

use api::id::{ContentId, PlayerId, SaveId};
use api::manifest::{AppName, Saves};
use api::node::{DesiredSaves, ObservedSave};
use api::problem::{Problem, ProblemKind};
use api::saves::{SaveList, SaveVersion};
use content::SealKey;
use content::saves::{Archive, Limits};
use tracing::{info, warn};

use super::uploads::store_failed;
use super::{Plane, broken, now};
use crate::keeper;
use crate::store::{ChosenSave, Committed, SaveRecord, SaveRefusal, SessionRecord, SessionSave, StoreError};

/// The key of one player's saves of one app. Whoever has it reads these and no others.
fn key_of(master: &SealKey, tenant: &str, player: PlayerId, app: &str) -> SealKey {
    master.derive(&["tenant", tenant]).derive(&["player", &player.to_string(), "app", app])
}

impl SaveRefusal {
    /// As the API answers it.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            SaveRefusal::InUse(session) => ProblemKind::SaveInUse.because(format!(
                "Your session {session} of this game is running, and both would save over each other."
            )),
            SaveRefusal::Conflict(versions) => {
                let ids: Vec<String> = versions.iter().map(ToString::to_string).collect();
                ProblemKind::SaveConflict
                    .because(format!("Your save went on in several ways: {}. All of them are kept.", ids.join(", ")))
            }
            SaveRefusal::Unknown => {
                ProblemKind::SaveUnknown.because("You have no such version of a save of this game.")
            }
        }
    }
}

impl Plane {
    /// Whose keys an app's saves have: those of its tenant, or of the operator for a directory's package.
    async fn save_tenant(&self, app: &str) -> Result<String, StoreError> {
        let Ok(name) = app.parse::<AppName>() else { return Ok(super::releases::OPERATOR_TENANT.to_owned()) };
        Ok(match self.store.owner(&name).await? {
            crate::store::Owner::Tenant(tenant) => tenant,
            crate::store::Owner::Nobody => super::releases::OPERATOR_TENANT.to_owned(),
        })
    }

    async fn save_key(&self, player: PlayerId, app: &str) -> Result<SealKey, StoreError> {
        Ok(key_of(&self.save_key, &self.save_tenant(app).await?, player, app))
    }

    /// What the node is told of a session's save.
    pub(crate) async fn desired_saves(&self, app: &AppName, save: &SessionSave) -> Result<DesiredSaves, StoreError> {
        Ok(DesiredSaves {
            restore: save.start.clone(),
            key: self.save_key(save.player, app.as_str()).await?.bytes(),
            max_bytes: self.settings.limits.save_bytes,
            max_files: self.settings.limits.save_files,
            committed: save.committed,
        })
    }

    /// A node reported a capture: it becomes a version.
    pub(crate) async fn commit_save(&self, record: &SessionRecord, saved: &ObservedSave) -> Result<(), StoreError> {
        let (session, sequence) = (record.id, saved.sequence);
        match self.store.commit_save(session, record.epoch, saved, now()).await? {
            Committed::Yes => {
                self.observer.metrics.save_committed(saved.kind);
                info!(%session, sequence, kind = ?saved.kind, bytes = saved.bytes, "save committed");
                // The node waits for the word.
                if let Some(node) = record.node {
                    self.coordinator.fleet.want(node);
                }
            }
            Committed::NotKept => warn!(%session, "a save was captured of a session that keeps none"),
            Committed::Condemned => {
                return keeper::absolve(&self.settings.data_dir, &self.store).await;
            }
        }
        self.coordinator.save_committed(session, record.epoch, sequence);
        Ok(())
    }

    /// A player's versions.
    pub(crate) async fn saves(&self, player: PlayerId, app: Option<&str>) -> Result<SaveList, Problem> {
        let (records, heads) = self.store.saves(player, app).await.map_err(broken)?;
        let view = |record: SaveRecord| SaveVersion {
            is_newest: heads.contains(&record.id),
            id: record.id,
            app: record.app,
            parents: record.parents,
            bytes: record.bytes,
            files: record.files,
            kind: record.kind,
            settled: record.settled,
            session: record.session,
            created_at: record.created_at,
        };
        Ok(SaveList { saves: records.into_iter().map(view).collect() })
    }

    async fn version(&self, player: PlayerId, id: &str) -> Result<SaveRecord, Problem> {
        let unknown = || ProblemKind::SaveUnknown.because("You have no such version of a save.");
        let id: SaveId = id.parse().map_err(|_no_id| unknown())?;
        self.store.save_of(player, id).await.map_err(broken)?.ok_or_else(unknown)
    }

    /// Goes back to a version: a new one with the same files, after all of the newest.
    pub(crate) async fn restore_version(&self, player: PlayerId, id: &str) -> Result<SaveList, Problem> {
        let version = self.version(player, id).await?;
        let chosen = ChosenSave { content: version.content, bytes: version.bytes, files: version.files };
        self.store.add_save(player, &version.app, chosen, now()).await.map_err(broken)?;
        self.saves(player, Some(&version.app)).await
    }

    /// A version's files as an archive: `home/…` and `base/…`, as tar.
    pub(crate) async fn save_archive(&self, player: PlayerId, id: &str) -> Result<Vec<u8>, Problem> {
        let version = self.version(player, id).await?;
        let key = self.save_key(player, &version.app).await.map_err(broken)?;
        let root = version.content.as_str().parse().map_err(|_error| ProblemKind::Internal.plain())?;
        let read = Archive::new(self.uploads.store.clone(), key).read(root).await;
        let content = read.map_err(|error| archive_failed(&error))?;
        tokio::task::spawn_blocking(move || content.to_tar())
            .await
            .map_err(|_error| ProblemKind::Internal.plain())?
            .map_err(|_error| ProblemKind::Internal.plain())
    }

    /// Takes an archive as a new version of a save, after all of the newest.
    pub(crate) async fn bring_save(&self, player: PlayerId, app: &str, archive: &[u8]) -> Result<SaveList, Problem> {
        let package = self.catalogue.package(app)?;
        let (app, rules) = (package.manifest.name.clone(), &package.manifest.saves);
        self.check_kept(rules)?;
        let limits = Limits { bytes: self.settings.limits.save_bytes, files: self.settings.limits.save_files };
        let read = content::transfer::in_place(|| content::saves::SaveContent::of_tar(archive, limits));
        let content =
            read.map_err(|error| ProblemKind::InvalidSave.because(format!("It cannot be taken: {error}.")))?;
        let key = self.save_key(player, app.as_str()).await.map_err(broken)?;
        let written = Archive::new(self.uploads.store.clone(), key).write(&content.tree, &content.chunks).await;
        let root = written.map_err(|error| archive_failed(&error))?;
        let chosen = ChosenSave {
            content: ContentId::try_from(root.to_string()).map_err(|_error| ProblemKind::Internal.plain())?,
            bytes: content.tree.bytes(),
            files: content.tree.entries().len() as u64,
        };
        self.store.add_save(player, app.as_str(), chosen, now()).await.map_err(broken)?;
        self.saves(player, Some(app.as_str())).await
    }

    fn check_kept(&self, rules: &Saves) -> Result<(), Problem> {
        if rules.are_kept() {
            return Ok(());
        }
        Err(ProblemKind::InvalidSave
            .because("This game keeps no saves here: its kite.toml names none, or it saves online."))
    }

    /// Erases a player's saves of an app, or of all apps.
    pub(crate) async fn erase_saves(&self, player: PlayerId, app: Option<&str>) -> Result<(), Problem> {
        let versions = self.store.erase_saves(player, app).await.map_err(broken)?;
        info!(versions, "saves erased");
        Ok(())
    }
}

fn archive_failed(error: &content::saves::ArchiveError) -> Problem {
    match error {
        content::saves::ArchiveError::Store(error) => store_failed(error),
        other => {
            tracing::error!(error = other as &dyn std::error::Error, "a save cannot be read or kept");
            ProblemKind::Internal.because("The save cannot be read. It is not removed; tell the operator.")
        }
    }
}
