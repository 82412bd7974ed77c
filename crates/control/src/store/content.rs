//! Tenants, apps, releases, channels, uploads, copies on sites in the database.

use api::clock::UtcTime;
use api::content::ReplicaPolicy;
use api::id::{ContentId, UploadId};
use api::manifest::AppName;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::entity::{
    app, channel_change, condemned, placement, release, save, tenant, upload, upload_object, upload_root,
};
use super::{Store, StoreError};

/// Releases of an app that a list has, and that a new upload is compared with at most.
const LIST_LENGTH: u64 = 1000;

/// A release with everything that is known of it but its picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReleaseRecord {
    pub(crate) app: AppName,
    pub(crate) number: u32,
    pub(crate) content: ContentId,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) manifest: String,
    pub(crate) created_at: UtcTime,
}

/// What a new release is made of.
#[derive(Clone, Debug)]
pub(crate) struct NewRelease {
    pub(crate) content: ContentId,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) manifest: String,
    pub(crate) picture: Option<Vec<u8>>,
    /// Channels that point to it from its first moment on.
    pub(crate) channels: Vec<String>,
}

/// A channel that points to a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelRecord {
    pub(crate) app: AppName,
    pub(crate) name: String,
    pub(crate) release: u32,
    pub(crate) changed_at: UtcTime,
}

/// An upload that is going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadRecord {
    pub(crate) id: UploadId,
    pub(crate) app: AppName,
    pub(crate) tenant: String,
    /// What it may refer to besides its own packs, newest first.
    pub(crate) roots: Vec<ContentId>,
    /// What it wrote or was about to, as `packs/ID`.
    pub(crate) objects: Vec<String>,
}

/// What became of the note of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is noted: it can be written.
    Yes,
    /// The upload has ended.
    Ended,
    /// The collector is about to remove it: try again in a moment.
    Condemned,
}

/// What has to be kept in the content store.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveContent {
    pub(crate) roots: Vec<String>,
    /// Objects of uploads that go on, as `packs/ID`.
    pub(crate) pending: Vec<String>,
}

/// Whose an app is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This tenant's.
    Tenant(String),
    /// Nobody's: there is none.
    Nobody,
}

impl Store {
    /// Adds a tenant; false when there is one of this name.
    pub(crate) async fn add_tenant(&self, name: &AppName, hash: [u8; 32], at: UtcTime) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        if tenant::Entity::find_by_id(name.to_string()).one(&transaction).await?.is_some() {
            transaction.rollback().await?;
            return Ok(false);
        }
        let row = tenant::Model { name: name.to_string(), token_hash: hash.to_vec(), created_at: at.unix_ms() };
        row.into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The tenant whose token has this hash.
    pub(crate) async fn tenant_by_token(&self, hash: [u8; 32]) -> Result<Option<String>, StoreError> {
        let row = tenant::Entity::find().filter(tenant::Column::TokenHash.eq(hash.to_vec())).one(&self.read).await?;
        Ok(row.map(|row| row.name))
    }

    /// Whose is this app?
    pub(crate) async fn owner(&self, app: &AppName) -> Result<Owner, StoreError> {
        let row = app::Entity::find_by_id(app.to_string()).one(&self.read).await?;
        Ok(row.map_or(Owner::Nobody, |row| Owner::Tenant(row.tenant)))
    }

    /// Begins an upload: notes what it may refer to, so that the collector leaves it, and takes over what arrived of the tenant's
    /// unfinished uploads of this app.
    pub(crate) async fn begin_upload(
        &self,
        id: UploadId,
        app: &AppName,
        tenant: &str,
        at: UtcTime,
    ) -> Result<UploadRecord, StoreError> {
        let transaction = self.begin().await?;
        let mut roots: Vec<String> = Vec::new();
        let apps: Vec<String> = app::Entity::find()
            .filter(app::Column::Tenant.eq(tenant))
            .all(&transaction)
            .await?
            .into_iter()
            .map(|row| row.name)
            .collect();
        // Its own releases first, the newest of them before all; then those of the tenant's other apps.
        let own = release::Entity::find().filter(release::Column::App.eq(app.to_string()));
        let own = own.order_by_desc(release::Column::Number).limit(8).all(&transaction).await?;
        roots.extend(own.into_iter().map(|row| row.root));
        for other in apps.iter().filter(|other| *other != app.as_str()).take(64) {
            let newest = release::Entity::find().filter(release::Column::App.eq(other.as_str()));
            let newest = newest.order_by_desc(release::Column::Number).one(&transaction).await?;
            roots.extend(newest.map(|row| row.root));
        }
        let open = upload::Entity::find()
            .filter(upload::Column::App.eq(app.to_string()))
            .filter(upload::Column::Tenant.eq(tenant));
        let open: Vec<String> = open.all(&transaction).await?.into_iter().map(|row| row.id).collect();
        let packs = upload_object::Entity::find().filter(upload_object::Column::Upload.is_in(open));
        let mut packs: Vec<String> = packs.all(&transaction).await?.into_iter().map(|row| row.object).collect();
        packs.sort_unstable();
        packs.dedup();
        let mut seen = std::collections::HashSet::new();
        roots.retain(|root| seen.insert(root.clone()));
        let row = upload::Model {
            id: id.to_string(),
            app: app.to_string(),
            tenant: tenant.to_owned(),
            created_at: at.unix_ms(),
            active_at: at.unix_ms(),
        };
        row.into_active_model().insert(&transaction).await?;
        for root in &roots {
            let row = upload_root::Model { upload: id.to_string(), root: root.clone() };
            row.into_active_model().insert(&transaction).await?;
        }
        for pack in &packs {
            let row = upload_object::Model { upload: id.to_string(), object: pack.clone() };
            row.into_active_model().insert(&transaction).await?;
        }
        transaction.commit().await?;
        let roots = roots.into_iter().filter_map(|root| ContentId::try_from(root).ok()).collect();
        Ok(UploadRecord { id, app: app.clone(), tenant: tenant.to_owned(), roots, objects: packs })
    }

    /// An upload that is going on.
    pub(crate) async fn upload(&self, id: UploadId) -> Result<Option<UploadRecord>, StoreError> {
        let Some(row) = upload::Entity::find_by_id(id.to_string()).one(&self.read).await? else { return Ok(None) };
        let roots = upload_root::Entity::find().filter(upload_root::Column::Upload.eq(id.to_string()));
        let roots =
            roots.all(&self.read).await?.into_iter().filter_map(|row| ContentId::try_from(row.root).ok()).collect();
        let packs = upload_object::Entity::find().filter(upload_object::Column::Upload.eq(id.to_string()));
        let packs = packs.all(&self.read).await?.into_iter().map(|row| row.object).collect();
        let app = row.app.parse().map_err(|_no_name| StoreError::Unreadable { id: row.id, column: "app" })?;
        Ok(Some(UploadRecord { id, app, tenant: row.tenant, roots, objects: packs }))
    }

    /// Notes objects that an upload is about to write, as `packs/ID`, and that the upload goes on.
    pub(crate) async fn note_objects(&self, id: UploadId, names: &[String], at: UtcTime) -> Result<Noted, StoreError> {
        let transaction = self.begin().await?;
        let active = upload::Entity::update_many().col_expr(upload::Column::ActiveAt, Expr::val(at.unix_ms()));
        let found = active.filter(upload::Column::Id.eq(id.to_string())).exec(&transaction).await?.rows_affected > 0;
        if !found {
            transaction.rollback().await?;
            return Ok(Noted::Ended);
        }
        for name in names {
            if condemned::Entity::find_by_id(name.clone()).one(&transaction).await?.is_some() {
                transaction.rollback().await?;
                return Ok(Noted::Condemned);
            }
            if upload_object::Entity::find_by_id((id.to_string(), name.clone())).one(&transaction).await?.is_none() {
                let row = upload_object::Model { upload: id.to_string(), object: name.clone() };
                row.into_active_model().insert(&transaction).await?;
            }
        }
        transaction.commit().await?;
        Ok(Noted::Yes)
    }

    /// Notes what the collector is about to remove, and forgets what it was before.
    pub(crate) async fn condemn(&self, names: &[String]) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        condemned::Entity::delete_many().exec(&transaction).await?;
        for part in names.chunks(200) {
            let rows = part.iter().map(|object| condemned::Model { object: object.clone() }.into_active_model());
            condemned::Entity::insert_many(rows).exec_without_returning(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Makes a release of an upload: one transaction, after which the release is what holds the content. `None` when the upload has
    /// ended, or the app became another tenant's meanwhile.
    pub(crate) async fn release(
        &self,
        id: UploadId,
        new: NewRelease,
        at: UtcTime,
    ) -> Result<Option<ReleaseRecord>, StoreError> {
        let transaction = self.begin().await?;
        let Some(upload) = upload::Entity::find_by_id(id.to_string()).one(&transaction).await? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        match app::Entity::find_by_id(upload.app.clone()).one(&transaction).await? {
            Some(app) if app.tenant != upload.tenant => {
                transaction.rollback().await?;
                return Ok(None);
            }
            Some(_) => {}
            None => {
                let row =
                    app::Model { name: upload.app.clone(), tenant: upload.tenant.clone(), created_at: at.unix_ms() };
                row.into_active_model().insert(&transaction).await?;
            }
        }
        let newest = release::Entity::find().filter(release::Column::App.eq(upload.app.as_str()));
        let newest = newest.order_by_desc(release::Column::Number).one(&transaction).await?;
        let row = release::Model {
            app: upload.app.clone(),
            number: newest.map_or(0, |newest| newest.number) + 1,
            root: new.content.to_string(),
            bytes: i64::try_from(new.bytes).unwrap_or(i64::MAX),
            files: i64::try_from(new.files).unwrap_or(i64::MAX),
            manifest: new.manifest,
            picture: new.picture,
            created_at: at.unix_ms(),
        };
        row.clone().into_active_model().insert(&transaction).await?;
        for channel in new.channels {
            add_change(&transaction, &upload.app, &channel, row.number, at).await?;
        }
        remove_upload(&transaction, &upload.id).await?;
        transaction.commit().await?;
        release_of(row).map(Some)
    }

    /// Ends an upload without a release.
    pub(crate) async fn abandon_upload(&self, id: UploadId) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        remove_upload(&transaction, &id.to_string()).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends uploads that nobody went on with since; how many.
    pub(crate) async fn forget_uploads_before(&self, time: UtcTime) -> Result<usize, StoreError> {
        let transaction = self.begin().await?;
        let old = upload::Entity::find().filter(upload::Column::ActiveAt.lt(time.unix_ms())).all(&transaction).await?;
        for row in &old {
            remove_upload(&transaction, &row.id).await?;
        }
        transaction.commit().await?;
        Ok(old.len())
    }

    /// All releases, oldest first.
    pub(crate) async fn releases(&self) -> Result<Vec<ReleaseRecord>, StoreError> {
        let rows = release::Entity::find().order_by_asc(release::Column::App).order_by_asc(release::Column::Number);
        rows.all(&self.read).await?.into_iter().map(release_of).collect()
    }

    /// The newest releases of an app, newest first.
    pub(crate) async fn releases_of(&self, app: &AppName) -> Result<Vec<ReleaseRecord>, StoreError> {
        let rows = release::Entity::find().filter(release::Column::App.eq(app.to_string()));
        let rows = rows.order_by_desc(release::Column::Number).limit(LIST_LENGTH).all(&self.read).await?;
        rows.into_iter().map(release_of).collect()
    }

    /// One release.
    pub(crate) async fn release_of(&self, app: &AppName, number: u32) -> Result<Option<ReleaseRecord>, StoreError> {
        let row = release::Entity::find_by_id((app.to_string(), i64::from(number))).one(&self.read).await?;
        row.map(release_of).transpose()
    }

    /// A release's picture.
    pub(crate) async fn picture(&self, app: &AppName, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let row = release::Entity::find_by_id((app.to_string(), i64::from(number))).one(&self.read).await?;
        Ok(row.and_then(|row| row.picture))
    }

    /// Points a channel to a release.
    pub(crate) async fn set_channel(
        &self,
        app: &AppName,
        channel: &str,
        release: u32,
        at: UtcTime,
    ) -> Result<(), StoreError> {
        add_change(&self.write, app.as_str(), channel, i64::from(release), at).await
    }

    /// Points a channel back to where it pointed before its newest change to another release; `None` when there is nothing to go
    /// back to.
    pub(crate) async fn roll_back(&self, app: &AppName, channel: &str, at: UtcTime) -> Result<Option<u32>, StoreError> {
        let transaction = self.begin().await?;
        let changes = channel_change::Entity::find()
            .filter(channel_change::Column::App.eq(app.to_string()))
            .filter(channel_change::Column::Channel.eq(channel))
            .order_by_desc(channel_change::Column::Id)
            .all(&transaction)
            .await?;
        let current = changes.first().map(|change| change.release);
        let before = changes.iter().map(|change| change.release).find(|release| Some(*release) != current);
        if let Some(before) = before {
            add_change(&transaction, app.as_str(), channel, before, at).await?;
        }
        transaction.commit().await?;
        Ok(before.and_then(|before| u32::try_from(before).ok()))
    }

    /// Where all channels point.
    pub(crate) async fn channels(&self) -> Result<Vec<ChannelRecord>, StoreError> {
        let rows = channel_change::Entity::find().order_by_asc(channel_change::Column::Id).all(&self.read).await?;
        let mut newest = std::collections::BTreeMap::new();
        for row in rows {
            let unreadable = |column| StoreError::Unreadable { id: row.app.clone(), column };
            let record = ChannelRecord {
                app: row.app.parse().map_err(|_no_name| unreadable("app"))?,
                name: row.channel.clone(),
                release: u32::try_from(row.release).map_err(|_range| unreadable("release"))?,
                changed_at: UtcTime::from_unix_ms(row.changed_at),
            };
            newest.insert((row.app, row.channel), record);
        }
        Ok(newest.into_values().collect())
    }

    /// Sets how much a release is wanted on a site.
    pub(crate) async fn set_placement(
        &self,
        app: &AppName,
        release: u32,
        site: &str,
        policy: ReplicaPolicy,
    ) -> Result<(), StoreError> {
        let row = placement::Model {
            app: app.to_string(),
            release: i64::from(release),
            site: site.to_owned(),
            policy: word(policy).to_owned(),
        };
        let transaction = self.begin().await?;
        let key = (row.app.clone(), row.release, row.site.clone());
        placement::Entity::delete_by_id(key).exec(&transaction).await?;
        row.into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What is wanted where.
    pub(crate) async fn placements(&self) -> Result<Vec<(String, u32, String, ReplicaPolicy)>, StoreError> {
        let rows = placement::Entity::find().all(&self.read).await?;
        let read = |row: placement::Model| {
            let policy =
                policy(&row.policy).ok_or_else(|| StoreError::Unreadable { id: row.app.clone(), column: "policy" })?;
            Ok((row.app, u32::try_from(row.release).unwrap_or(0), row.site, policy))
        };
        rows.into_iter().map(read).collect()
    }

    /// What has to be kept, as one moment sees it.
    pub(crate) async fn live_content(&self) -> Result<LiveContent, StoreError> {
        let transaction = self.begin().await?;
        let mut roots: Vec<String> = Vec::new();
        roots.extend(release::Entity::find().all(&transaction).await?.into_iter().map(|row| row.root));
        roots.extend(upload_root::Entity::find().all(&transaction).await?.into_iter().map(|row| row.root));
        roots.extend(save::Entity::find().all(&transaction).await?.into_iter().map(|row| row.root));
        let pending =
            upload_object::Entity::find().all(&transaction).await?.into_iter().map(|row| row.object).collect();
        transaction.rollback().await?;
        roots.sort_unstable();
        roots.dedup();
        Ok(LiveContent { roots, pending })
    }
}

async fn add_change(
    connection: &impl ConnectionTrait,
    app: &str,
    channel: &str,
    release: i64,
    at: UtcTime,
) -> Result<(), StoreError> {
    let row = channel_change::ActiveModel {
        id: ActiveValue::NotSet,
        app: ActiveValue::Set(app.to_owned()),
        channel: ActiveValue::Set(channel.to_owned()),
        release: ActiveValue::Set(release),
        changed_at: ActiveValue::Set(at.unix_ms()),
    };
    row.insert(connection).await?;
    Ok(())
}

async fn remove_upload(connection: &impl ConnectionTrait, id: &str) -> Result<(), StoreError> {
    upload_object::Entity::delete_many().filter(upload_object::Column::Upload.eq(id)).exec(connection).await?;
    upload_root::Entity::delete_many().filter(upload_root::Column::Upload.eq(id)).exec(connection).await?;
    upload::Entity::delete_by_id(id.to_owned()).exec(connection).await?;
    Ok(())
}

fn release_of(row: release::Model) -> Result<ReleaseRecord, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: format!("{} {}", row.app, row.number), column };
    Ok(ReleaseRecord {
        app: row.app.parse().map_err(|_no_name| unreadable("app"))?,
        number: u32::try_from(row.number).map_err(|_range| unreadable("number"))?,
        content: ContentId::try_from(row.root.clone()).map_err(|_no_id| unreadable("root"))?,
        bytes: u64::try_from(row.bytes).map_err(|_range| unreadable("bytes"))?,
        files: u64::try_from(row.files).map_err(|_range| unreadable("files"))?,
        manifest: row.manifest.clone(),
        created_at: UtcTime::from_unix_ms(row.created_at),
    })
}

fn word(policy: ReplicaPolicy) -> &'static str {
    match policy {
        ReplicaPolicy::Pinned => "pinned",
        ReplicaPolicy::Preferred => "preferred",
        ReplicaPolicy::Anywhere => "anywhere",
    }
}

fn policy(word: &str) -> Option<ReplicaPolicy> {
    [ReplicaPolicy::Pinned, ReplicaPolicy::Preferred, ReplicaPolicy::Anywhere]
        .into_iter()
        .find(|one| self::word(*one) == word)
}
