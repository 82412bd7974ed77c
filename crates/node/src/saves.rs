//! A player's save around an instance's life: written before the game starts, captured while it runs and after it ended.
//!
//! A capture is in the content store before it is reported, and it is a version when the control plane says so. Files that did not change since
//! the last capture cost a look at their names.

use std::path::PathBuf;
use std::time::Duration;

use api::id::ContentId;
use api::manifest::{Manifest, Placeholder};
use api::node::{DesiredSaves, ObservedSave, SaveKind};
use api::saves::SaveFailure;
use content::saves::{
    Archive, ArchiveError, CaptureError, Captured, Fingerprint, Limits, Pattern, Place, Places, SETTLE, SavePaths,
    capture, capture_stable, fingerprint, restore_save,
};
use content::{ChunkId, RestoreError, SealKey, Store};
use std::collections::HashMap;

/// How long a checkpoint waits for a moment in which the game writes nothing. Longer makes it late, shorter catches a game between two files.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why a save was not written or captured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// The manifest's paths cannot be used: correct `saves.paths`.
    #[error("`saves.paths`: {0}")]
    Paths(String),
    /// What the control plane named is no content.
    #[error("the save's content has no good name")]
    Name,
    /// The store, the key, or what is stored.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The instance's directories.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The game's files.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A task broke.
    #[error("the work on the save broke: {0}")]
    Broken(String),
}

impl SaveError {
    /// As the control plane and the player are told.
    pub(crate) fn failure(&self) -> SaveFailure {
        match self {
            SaveError::Capture(CaptureError::Quota { what: "bytes", limit, found }) => {
                SaveFailure::Bytes { found: *found, limit: *limit }
            }
            SaveError::Capture(CaptureError::Quota { what: "files", limit, found }) => {
                SaveFailure::Files { found: *found, limit: *limit }
            }
            _ => SaveFailure::Other,
        }
    }
}

/// The save of one instance.
#[derive(Debug)]
pub(crate) struct Saves {
    places: OwnedPlaces,
    paths: SavePaths,
    limits: Limits,
    archive: Archive,
    /// Of the newest capture, or of what was written at the start.
    newest: Option<Fingerprint>,
    sequence: u32,
}

#[derive(Clone, Debug)]
struct OwnedPlaces {
    home: PathBuf,
    base: PathBuf,
}

impl OwnedPlaces {
    fn borrowed(&self) -> Places<'_> {
        Places { home: &self.home, base: Some(&self.base) }
    }
}

/// The manifest's paths with their placeholders resolved.
fn save_paths(manifest: &Manifest) -> Result<SavePaths, SaveError> {
    let patterns = manifest.saves.paths.iter().filter_map(|path| {
        let places = [
            (Placeholder::Base, Place::Base, ""),
            (Placeholder::Home, Place::Home, ""),
            (Placeholder::XdgData, Place::Home, ".local/share/"),
            (Placeholder::XdgConfig, Place::Home, ".config/"),
        ];
        places.into_iter().find_map(|(placeholder, place, inside)| {
            let rest = path.strip_prefix(placeholder.text())?.trim_start_matches('/');
            Some(Pattern { place, glob: format!("{inside}{rest}").trim_end_matches('/').to_owned() })
        })
    });
    SavePaths::new(patterns).map_err(|error| SaveError::Paths(error.to_string()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SaveError> + Send + 'static,
) -> Result<T, SaveError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| SaveError::Broken(error.to_string()))?
}

impl Saves {
    /// Writes the version that the play begins with into the instance's directories, which exist.
    pub(crate) async fn begin(
        store: Store,
        desired: &DesiredSaves,
        manifest: &Manifest,
        place: &crate::place::Place,
        owner: Option<u32>,
    ) -> Result<Saves, SaveError> {
        let places = OwnedPlaces { home: place.home.clone(), base: place.layer.join("upper") };
        let paths = save_paths(manifest)?;
        let mut archive = Archive::new(store, SealKey::new(desired.key));
        let upper = places.base.clone();
        blocking(move || {
            let made = std::fs::create_dir_all(&upper).and_then(|()| std::os::unix::fs::chown(&upper, owner, owner));
            made.map_err(|error| SaveError::Broken(error.to_string()))
        })
        .await?;
        if let Some(version) = &desired.restore {
            let root = version.as_str().parse().map_err(|_error| SaveError::Name)?;
            let content = archive.read(root).await?;
            let to = places.clone();
            blocking(move || {
                let mut fetch = |id: ChunkId| {
                    content.chunks.get(&id).cloned().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
                };
                Ok(restore_save(&content.tree, &to.borrowed(), owner, &mut fetch)?)
            })
            .await?;
        }
        let limits = Limits { bytes: desired.max_bytes, files: desired.max_files };
        let mut saves = Saves { places, paths, limits, archive, newest: None, sequence: 0 };
        saves.newest = Some(saves.look().await?);
        Ok(saves)
    }

    async fn look(&self) -> Result<Fingerprint, SaveError> {
        let (places, paths) = (self.places.clone(), self.paths.clone());
        blocking(move || Ok(fingerprint(&places.borrowed(), &paths)?)).await
    }

    /// Captures what changed since the newest capture; `None` when nothing did. In the store when this returns.
    pub(crate) async fn capture(&mut self, kind: SaveKind) -> Result<Option<ObservedSave>, SaveError> {
        let before = self.look().await?;
        if self.newest.as_ref() == Some(&before) {
            return Ok(None);
        }
        let (places, paths, limits) = (self.places.clone(), self.paths.clone(), self.limits);
        let (captured, chunks) = blocking(move || {
            let mut chunks: HashMap<ChunkId, Vec<u8>> = HashMap::new();
            let mut keep = |chunk: content::Chunk| {
                chunks.insert(chunk.id, chunk.bytes);
                Ok(())
            };
            let places = places.borrowed();
            let captured: Captured = match kind {
                SaveKind::Checkpoint => capture_stable(&places, &paths, limits, &mut keep, PATIENCE, SETTLE)?,
                SaveKind::Final | SaveKind::Chosen => capture(&places, &paths, limits, &mut keep)?,
            };
            Ok((captured, chunks))
        })
        .await?;
        let root = self.archive.write(&captured.tree, &chunks).await?;
        self.newest = Some(before);
        self.sequence += 1;
        let content = ContentId::try_from(root.to_string()).map_err(|_error| SaveError::Name)?;
        Ok(Some(ObservedSave {
            sequence: self.sequence,
            content,
            bytes: captured.tree.bytes(),
            files: captured.tree.entries().len() as u64,
            kind,
            settled: captured.is_settled,
        }))
    }
}
