//! Uploads: what arrives is checked, noted where the collector sees it, kept; at the end it becomes a release.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::access::Right;
use api::content::{CreatedUpload, MAX_PARCEL_BYTES, ParcelTaken, Release, STABLE, UploadEnd};
use api::id::{ContentId, UploadId};
use api::manifest::{AppName, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, PackagePath, Placeholder};
use api::problem::{Problem, ProblemKind};
use content::transfer::{FinishError, Known, OutlineError, ReceiveError, Upload};
use content::{EntryKind, ObjectName, PackId, RootId, Store, StoreError, Tree};
use serde_json::json;
use tokio::sync::Semaphore;
use tracing::{error, info};
use uuid::Uuid;

use super::access::Caller;
use super::catalogue::{MAX_PICTURE_BYTES, media_type};
use super::{Plane, broken, now};
use crate::keeper;
use crate::store::{NewRelease, Noted, UploadRecord};

/// Uploads that are kept in memory. One more makes the oldest be read again from the store with its next parcel.
const MAX_OPEN: usize = 32;

/// Parcels that are worked on at once: each takes up to 40 MB of memory and a core.
const PARCELS_AT_ONCE: usize = 4;

/// How often an object that the collector is about to remove is tried again, and how long after: it removes thousands a second.
const CONDEMNED_TRIES: u32 = 60;
const CONDEMNED_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// An upload, and whose it is.
#[derive(Debug)]
pub(crate) struct Open {
    record: UploadRecord,
    upload: Upload,
}

/// The store of content, and the uploads into it.
#[derive(Debug)]
pub(crate) struct Uploads {
    pub(crate) store: Store,
    open: Mutex<BTreeMap<UploadId, Arc<Open>>>,
    parcels: Semaphore,
}

impl Uploads {
    pub(crate) fn new(store: Store) -> Uploads {
        Uploads { store, open: Mutex::default(), parcels: Semaphore::new(PARCELS_AT_ONCE) }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<UploadId, Arc<Open>>> {
        // No code between lock and unlock can panic halfway through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has ended. With the last one its memory goes back.
    fn forget(&self, upload: UploadId) {
        let mut open = self.open();
        open.remove(&upload);
        if open.is_empty() {
            content::buffers::release();
        }
    }

    fn remember(&self, open: Open) -> Arc<Open> {
        let open = Arc::new(open);
        let mut all = self.open();
        if all.len() >= MAX_OPEN {
            all.pop_first();
        }
        Arc::clone(all.entry(open.record.id).or_insert(open))
    }
}

/// What the client is told when the content store failed; what happened stands in the log.
pub(crate) fn store_failed(error: &StoreError) -> Problem {
    if matches!(error, StoreError::Full) {
        return ProblemKind::DiskFull
            .because("The content store's disk is full. Nothing was lost: what arrived is kept.");
    }
    error!(error = error as &dyn std::error::Error, "the content store failed");
    ProblemKind::Internal.because("The content store failed.")
}

fn parse<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, Problem> {
    text.parse().map_err(|_error| {
        error!(text, what, "the database names content that cannot be");
        ProblemKind::Internal.plain()
    })
}

async fn read_known(store: &Store, record: &UploadRecord) -> Result<Known, Problem> {
    let roots: Result<Vec<RootId>, Problem> = record.roots.iter().map(|root| parse(root.as_str(), "root")).collect();
    let packs: Result<Vec<PackId>, Problem> =
        record.objects.iter().filter_map(|name| name.strip_prefix("packs/")).map(|pack| parse(pack, "pack")).collect();
    Known::read(store, &roots?, &packs?).await.map_err(|error| store_failed(&error))
}

impl Plane {
    /// Begins an upload of an app; the first one of an app makes it the caller's.
    pub(crate) async fn create_upload(&self, caller: &Caller, app: &str) -> Result<CreatedUpload, Problem> {
        let name: AppName = app.parse().map_err(|error| ProblemKind::InvalidRequest.because(format!("{error}.")))?;
        let tenant = self.may_upload(caller, &name).await?;
        let id = UploadId::from_uuid(Uuid::now_v7());
        let record = self.store.begin_upload(id, &name, &tenant, now()).await.map_err(broken)?;
        let known = read_known(&self.uploads.store, &record).await?;
        let created = CreatedUpload {
            upload: id,
            known: u32::try_from(known.prefixes().len()).unwrap_or(u32::MAX),
            base: u32::try_from(known.base()).unwrap_or(u32::MAX),
        };
        info!(upload = %id, app = %name, known = created.known, "upload begun");
        self.uploads.remember(Open { record, upload: Upload::new(known) });
        Ok(created)
    }

    /// An upload of the caller's.
    async fn open_upload(&self, caller: &Caller, id: &str) -> Result<Arc<Open>, Problem> {
        // First who asks: whether there is such an upload is nobody else's business.
        let tenant = self.tenant_with(caller, Right::AppsWrite)?;
        let unknown = || ProblemKind::UploadUnknown.because("No upload has this id, or it has ended.");
        let id: UploadId = id.parse().map_err(|_no_id| unknown())?;
        let found = self.uploads.open().get(&id).cloned();
        let open = match found {
            Some(open) => open,
            None => {
                let record = self.store.upload(id).await.map_err(broken)?.ok_or_else(unknown)?;
                let known = read_known(&self.uploads.store, &record).await?;
                self.uploads.remember(Open { record, upload: Upload::new(known) })
            }
        };
        if caller.is_operator() || open.record.tenant == tenant { Ok(open) } else { Err(unknown()) }
    }

    /// The first 8 bytes of the names of all chunks that need not be sent.
    pub(crate) async fn upload_known(&self, caller: &Caller, id: &str) -> Result<Vec<u8>, Problem> {
        let open = self.open_upload(caller, id).await?;
        Ok(open.upload.known().prefixes().flat_map(u64::to_le_bytes).collect())
    }

    /// Signatures of known chunks, which are named by numbers of 4 bytes.
    pub(crate) async fn upload_signatures(&self, caller: &Caller, id: &str, body: &[u8]) -> Result<Vec<u8>, Problem> {
        let open = self.open_upload(caller, id).await?;
        let (numbers, rest) = body.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(ProblemKind::InvalidRequest.because("The body is no list of numbers of 4 bytes."));
        }
        let numbers: Vec<u32> = numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let _permit = self.parcel_permit().await?;
        open.upload.signatures(&self.uploads.store, &numbers).await.map_err(|error| refused(&error))
    }

    /// Notes objects before they are written: one that is there and not noted would be the collector's.
    async fn note(&self, open: &Open, objects: &[ObjectName]) -> Result<(), Problem> {
        let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
        for _ in 0..CONDEMNED_TRIES {
            match self.store.note_objects(open.record.id, &names, now()).await.map_err(broken)? {
                Noted::Yes => return Ok(()),
                Noted::Ended => return Err(ProblemKind::UploadUnknown.because("The upload has ended meanwhile.")),
                Noted::Condemned => {
                    keeper::absolve(&self.settings.data_dir, &self.store).await.map_err(broken)?;
                    tokio::time::sleep(CONDEMNED_PAUSE).await;
                }
            }
        }
        Err(ProblemKind::ServiceStopping.because("The content store is being cleaned up.").retry_after(10))
    }

    async fn parcel_permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Problem> {
        self.uploads.parcels.acquire().await.map_err(|_closed| ProblemKind::ServiceStopping.plain())
    }

    /// Takes a parcel. What it brought is kept when this returns, whatever happens to anybody then.
    pub(crate) async fn upload_parcel(&self, caller: &Caller, id: &str, body: &[u8]) -> Result<ParcelTaken, Problem> {
        debug_assert!(body.len() <= MAX_PARCEL_BYTES, "the edge bounds it");
        let open = self.open_upload(caller, id).await?;
        let _permit = self.parcel_permit().await?;
        let received = open.upload.receive(&self.uploads.store, body).await.map_err(|error| refused(&error))?;
        for mut pack in received.packs {
            // A push can be repeated, a player's progress cannot.
            self.uploads.store.check_reserve(pack.bytes.len() as u64).map_err(|error| store_failed(&error))?;
            self.note(&open, &[pack.id.into()]).await?;
            let bytes = std::mem::take(&mut pack.bytes);
            let put = self.uploads.store.put_pack(pack.id, bytes).await;
            put.map_err(|error| store_failed(&error))?;
            open.upload.keep(&pack);
        }
        Ok(ParcelTaken { refused: received.refused.iter().map(ToString::to_string).collect() })
    }

    /// Ends an upload: what arrived becomes a release, or it is said what is missing or wrong; then the upload goes on.
    pub(crate) async fn finish_upload(
        &self,
        caller: &Caller,
        id: &str,
        channel: Option<String>,
        outline: &[u8],
    ) -> Result<UploadEnd, Problem> {
        let open = self.open_upload(caller, id).await?;
        let channel = channel.map(|name| channel_name(&name)).transpose()?;
        let (tree, root) = match content::transfer::in_place(|| open.upload.finish(outline)) {
            Ok(made) => made,
            Err(FinishError::Missing(chunks)) => {
                return Ok(UploadEnd::Missing { chunks: chunks.iter().map(ToString::to_string).collect() });
            }
            Err(FinishError::Outline(error @ OutlineError::Tree(_))) => {
                return Err(ProblemKind::InvalidPackage.because(format!("{error}.")));
            }
            Err(FinishError::Outline(error)) => return Err(ProblemKind::InvalidRequest.because(format!("{error}."))),
            Err(FinishError::Store(error)) => return Err(store_failed(&error)),
        };
        self.check_room(&open.record.tenant, tree.bytes()).await?;
        let (text, manifest) = self.manifest(&open, &tree).await?;
        let picture = self.package_picture(&open, &tree, &manifest).await?;
        // As packs are: what a collection is about to remove could be just this tree.
        self.note(&open, &[root.tree.into(), root.id().into()]).await?;
        let content =
            open.upload.write(&self.uploads.store, &tree, &root).await.map_err(|error| store_failed(&error))?;
        let content = ContentId::try_from(content.to_string()).map_err(|_no_id| ProblemKind::Internal.plain())?;
        // The first release of an app is what players get at once; later ones wait for somebody's word.
        let is_first = !self.catalogue.has_releases(&open.record.app);
        let channels = channel.into_iter().chain(is_first.then(|| STABLE.to_owned())).collect();
        let (bytes, files) = (tree.bytes(), tree.entries().len() as u64);
        let new = NewRelease { content, bytes, files, manifest: text, picture, channels };
        let released = self.store.release(open.record.id, new, now()).await.map_err(broken)?;
        self.uploads.forget(open.record.id);
        let record = released.ok_or_else(|| {
            ProblemKind::UploadUnknown.because("The upload has ended meanwhile, or the app is another tenant's.")
        })?;
        let (target, after) = (format!("{} {}", record.app, record.number), json!({"bytes": bytes, "files": files}));
        self.record_of_app(caller, &record.app, "release.make", target, None, Some(after)).await;
        info!(app = %record.app, release = record.number, bytes, files, "release made");
        self.refresh_catalogue().await?;
        let release = self.view_release(&record).await?;
        Ok(UploadEnd::Released { release })
    }

    /// May a tenant have so many more bytes of releases?
    async fn check_room(&self, tenant: &str, more: u64) -> Result<(), Problem> {
        let Some(tenant) = self.store.tenant(tenant).await.map_err(broken)? else { return Ok(()) };
        let Some(most) = tenant.settings.limits.releases_mb else { return Ok(()) };
        let has = self.store.release_bytes(tenant.name.as_str()).await.map_err(broken)?;
        if has.saturating_add(more) <= most.saturating_mul(1 << 20) {
            return Ok(());
        }
        let [has, more] = [has, more].map(|bytes| bytes.div_ceil(1 << 20));
        let detail = format!("Your releases have {has} MiB, this one has {more} MiB, and you may have {most} MiB.");
        Err(ProblemKind::TenantFull.because(detail))
    }

    /// Gives an upload up. What arrived is removed later.
    pub(crate) async fn abandon_upload(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        let open = self.open_upload(caller, id).await?;
        self.store.abandon_upload(open.record.id).await.map_err(broken)?;
        self.uploads.forget(open.record.id);
        Ok(())
    }

    /// The package's manifest, which has to be that of this app and to fit the package's files.
    async fn manifest(&self, open: &Open, tree: &Tree) -> Result<(String, Manifest), Problem> {
        let bad = |why: String| ProblemKind::InvalidPackage.because(why);
        let file =
            open.upload.file(&self.uploads.store, tree, MANIFEST_FILE.as_bytes(), MAX_MANIFEST_BYTES as u64).await;
        let file = file.map_err(|error| store_failed(&error))?;
        let bytes = file.ok_or_else(|| {
            bad(format!("The package has no {MANIFEST_FILE} of at most {MAX_MANIFEST_BYTES} bytes at its top."))
        })?;
        let text = String::from_utf8(bytes).map_err(|_detail| bad(format!("{MANIFEST_FILE} is not UTF-8.")))?;
        let manifest = Manifest::parse(&text).map_err(|errors| bad(format!("{MANIFEST_FILE}: {errors}")))?;
        if manifest.name != open.record.app {
            let (name, app) = (&manifest.name, &open.record.app);
            return Err(bad(format!("{MANIFEST_FILE} names the app `{name}`, and the upload is for `{app}`.")));
        }
        check_program(&manifest, tree).map_err(bad)?;
        Ok((text, manifest))
    }

    async fn package_picture(&self, open: &Open, tree: &Tree, manifest: &Manifest) -> Result<Option<Vec<u8>>, Problem> {
        let Some(path) = manifest.picture.as_ref().map(PackagePath::as_str) else { return Ok(None) };
        let file = open.upload.file(&self.uploads.store, tree, path.as_bytes(), MAX_PICTURE_BYTES).await;
        let bytes = file.map_err(|error| store_failed(&error))?.filter(|bytes| media_type(bytes).is_some());
        bytes.map(Some).ok_or_else(|| {
            ProblemKind::InvalidPackage.because(format!(
                "The picture `{path}` is no PNG, JPEG or WebP file of at most {MAX_PICTURE_BYTES} bytes in the package."
            ))
        })
    }

    /// A release as the API shows it.
    async fn view_release(&self, record: &crate::store::ReleaseRecord) -> Result<Release, Problem> {
        let channels = self.store.channels().await.map_err(broken)?;
        Ok(super::releases::view(record, &channels))
    }
}

/// A program of the package has to be there and executable; one of the machine is the node's business.
fn check_program(manifest: &Manifest, tree: &Tree) -> Result<(), String> {
    let Some(program) = manifest.launch.command.first() else { return Ok(()) };
    let Some(inside) = program.strip_prefix(Placeholder::Base.text()) else { return Ok(()) };
    let inside = inside.trim_start_matches('/');
    let entry = tree.entries().iter().find(|entry| entry.path.as_bytes() == inside.as_bytes());
    match entry.map(|entry| &entry.kind) {
        Some(EntryKind::File { is_executable: true, .. } | EntryKind::Symlink { .. } | EntryKind::HardLink { .. }) => {
            Ok(())
        }
        Some(EntryKind::File { .. }) => Err(format!("launch.command: `{inside}` is not executable (chmod +x).")),
        Some(EntryKind::Directory) => Err(format!("launch.command: `{inside}` is a directory.")),
        None => Err(format!("launch.command: the package has no `{inside}`. Add it, or correct the path.")),
    }
}

/// Names of channels are as those of apps.
pub(super) fn channel_name(name: &str) -> Result<String, Problem> {
    let checked: Result<AppName, _> = name.parse();
    checked.map(String::from).map_err(|_error| {
        ProblemKind::InvalidRequest.because("A channel's name is 1 to 40 of a-z, 0-9 and `-`, for example `beta`.")
    })
}

fn refused(error: &ReceiveError) -> Problem {
    match error {
        ReceiveError::Store(error) => store_failed(error),
        ReceiveError::Memory(_) => ProblemKind::Internal.plain(),
        ReceiveError::Parcel(_) | ReceiveError::Damaged(_) | ReceiveError::Signatures => {
            ProblemKind::InvalidRequest.because(format!("{error}."))
        }
    }
}
