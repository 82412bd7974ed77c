//! Releases, the channels that point to them, and their copies on sites.

use std::collections::BTreeSet;

use api::access::Right;
use api::content::{Channel, ChannelList, Release, ReleaseList, Replica, ReplicaPolicy, SetReplica};
use api::manifest::AppName;
use api::problem::{Problem, ProblemKind};
use serde_json::{Value, json};
use tracing::info;

use super::access::Caller;
use super::catalogue::{self, Picture, Released, Source, media_type};
use super::uploads::channel_name;
use super::{Plane, broken, now};
use crate::coordinator::fleet::replica_at;
use crate::store::{ChannelRecord, Owner, ReleaseRecord, ReleaseRemoval};

/// Whose the operator's own apps are. No tenant can be called so: the name has a character too many.
pub(crate) const OPERATOR_TENANT: &str = "@operator";

/// The site of the node that lives in the same process.
pub(crate) const LOCAL_SITE: &str = "local";

pub(super) fn view(record: &ReleaseRecord, channels: &[ChannelRecord]) -> Release {
    let points = |channel: &&ChannelRecord| channel.app == record.app && channel.release == record.number;
    Release {
        app: record.app.clone(),
        number: record.number,
        content: record.content.clone(),
        bytes: record.bytes,
        files: record.files,
        created_at: record.created_at,
        channels: channels.iter().filter(points).map(|channel| channel.name.clone()).collect(),
    }
}

impl Plane {
    /// Takes releases and channels from the database into the catalogue.
    pub(crate) async fn refresh_catalogue(&self) -> Result<(), Problem> {
        let releases = self.store.releases().await.map_err(broken)?;
        let channels = self.store.channels().await.map_err(broken)?;
        let placements = self.store.placements().await.map_err(broken)?;
        self.catalogue.set_released(Released::new(releases, channels, placements));
        Ok(())
    }

    /// An app's picture, as players see it.
    pub(crate) async fn picture(&self, name: &str) -> Result<Picture, Problem> {
        let package = self.catalogue.package(name)?;
        let (number, app) = match &package.source {
            Source::Release { number, .. } => (*number, package.manifest.name.clone()),
            Source::Directory(dir) => {
                let dir = dir.clone();
                let read = tokio::task::spawn_blocking(move || catalogue::picture(&package, &dir)).await;
                return read.map_err(|error| {
                    tracing::error!(%error, "reading a picture failed");
                    ProblemKind::Internal.plain()
                })?;
            }
        };
        let missing = || ProblemKind::PictureMissing.because(format!("`{app}` has no picture."));
        let bytes = self.store.picture(&app, number).await.map_err(broken)?.ok_or_else(missing)?;
        let media_type = media_type(&bytes).ok_or_else(missing)?;
        Ok(Picture { media_type, bytes })
    }

    /// The tenant for whom the caller may upload this app.
    pub(super) async fn may_upload(&self, caller: &Caller, app: &AppName) -> Result<String, Problem> {
        let tenant = self.tenant_with(caller, Right::AppsWrite)?;
        match self.store.owner(app).await.map_err(broken)? {
            // Its players would get another game, and their saves have the operator's keys.
            Owner::Nobody if !caller.is_operator() && self.catalogue.has_directory(app) => Err(ProblemKind::Forbidden
                .because("An app of this name is the operator's: choose another name, or let him upload it.")),
            Owner::Nobody => Ok(tenant),
            Owner::Tenant(owner) if caller.is_operator() || owner == tenant => Ok(owner),
            Owner::Tenant(_) => {
                Err(ProblemKind::Forbidden.because("An app of this name is another tenant's: choose another name."))
            }
        }
    }

    /// An app of the caller's; what is another tenant's does not exist for him.
    async fn own_app(&self, caller: &Caller, app: &str, right: Right) -> Result<AppName, Problem> {
        let tenant = self.tenant_with(caller, right)?;
        let unknown = || {
            let name: String = app.chars().take(60).collect();
            ProblemKind::AppUnknown.because(format!("No app with releases is called `{name}`."))
        };
        let name: AppName = app.parse().map_err(|_no_name| unknown())?;
        match self.store.owner(&name).await.map_err(broken)? {
            Owner::Tenant(owner) if caller.is_operator() || owner == tenant => Ok(name),
            Owner::Tenant(_) | Owner::Nobody => Err(unknown()),
        }
    }

    async fn own_release(
        &self,
        caller: &Caller,
        app: &str,
        number: &str,
        right: Right,
    ) -> Result<ReleaseRecord, Problem> {
        let name = self.own_app(caller, app, right).await?;
        let unknown = || ProblemKind::ReleaseUnknown.because(format!("`{name}` has no such release."));
        let number = number.parse().map_err(|_no_number| unknown())?;
        self.store.release_of(&name, number).await.map_err(broken)?.ok_or_else(unknown)
    }

    /// An app's releases.
    pub(crate) async fn releases(&self, caller: &Caller, app: &str) -> Result<ReleaseList, Problem> {
        let name = self.own_app(caller, app, Right::AppsRead).await?;
        let channels = self.store.channels().await.map_err(broken)?;
        let releases = self.store.releases_of(&name).await.map_err(broken)?;
        Ok(ReleaseList { releases: releases.iter().map(|record| view(record, &channels)).collect() })
    }

    /// Removes a release that nobody needs any more.
    pub(crate) async fn remove_release(&self, caller: &Caller, app: &str, number: &str) -> Result<(), Problem> {
        let record = self.own_release(caller, app, number, Right::AppsWrite).await?;
        let (app, release) = (&record.app, record.number);
        match self.store.remove_release(app, release).await.map_err(broken)? {
            ReleaseRemoval::Done => {}
            ReleaseRemoval::Pointed(channels) => {
                return Err(ProblemKind::ReleaseInUse
                    .because(format!("Release {release} of `{app}` is what {} points to.", channels.join(" and "))));
            }
            ReleaseRemoval::Played(sessions) => {
                return Err(ProblemKind::ReleaseInUse
                    .because(format!("{sessions} sessions play release {release} of `{app}`.")));
            }
        }
        let before = json!({"content": record.content, "bytes": record.bytes, "files": record.files});
        self.record_of_app(caller, app, "release.remove", format!("{app} {release}"), Some(before), None).await;
        info!(%app, release, "release removed");
        self.refresh_catalogue().await?;
        self.coordinator.fleet.want_all();
        Ok(())
    }

    /// An app's channels.
    pub(crate) async fn channels(&self, caller: &Caller, app: &str) -> Result<ChannelList, Problem> {
        let name = self.own_app(caller, app, Right::AppsRead).await?;
        self.channels_of(&name).await
    }

    async fn channels_of(&self, name: &AppName) -> Result<ChannelList, Problem> {
        let channels = self.store.channels().await.map_err(broken)?;
        let shown = channels.into_iter().filter(|channel| channel.app == *name).map(|channel| Channel {
            name: channel.name,
            release: channel.release,
            changed_at: channel.changed_at,
        });
        Ok(ChannelList { channels: shown.collect() })
    }

    /// Points a channel to a release: who starts now gets it, who plays goes on with his.
    pub(crate) async fn promote(
        &self,
        caller: &Caller,
        app: &str,
        channel: &str,
        release: u32,
    ) -> Result<ChannelList, Problem> {
        let record = self.own_release(caller, app, &release.to_string(), Right::AppsWrite).await?;
        let channel = channel_name(channel)?;
        let before = self.pointed(&record.app, &channel).await?;
        if !self.store.set_channel(&record.app, &channel, record.number, now()).await.map_err(broken)? {
            return Err(ProblemKind::ReleaseUnknown.plain());
        }
        let (target, after) = (format!("{} {channel}", record.app), json!({"release": release}));
        self.record_of_app(caller, &record.app, "channel.promote", target, before, Some(after)).await;
        info!(app = %record.app, channel, release, "channel changed");
        self.refresh_catalogue().await?;
        self.channels_of(&record.app).await
    }

    /// Points a channel back to the release before.
    pub(crate) async fn roll_back(&self, caller: &Caller, app: &str, channel: &str) -> Result<ChannelList, Problem> {
        let name = self.own_app(caller, app, Right::AppsWrite).await?;
        let channel = channel_name(channel)?;
        let before = self.pointed(&name, &channel).await?;
        let back = self.store.roll_back(&name, &channel, now()).await.map_err(broken)?;
        let release = back.ok_or_else(|| {
            ProblemKind::ReleaseUnknown.because(format!("The channel `{channel}` never pointed to another release."))
        })?;
        let (target, after) = (format!("{name} {channel}"), json!({"release": release}));
        self.record_of_app(caller, &name, "channel.roll_back", target, before, Some(after)).await;
        info!(app = %name, channel, release, "channel rolled back");
        self.refresh_catalogue().await?;
        self.channels_of(&name).await
    }

    /// Where a channel points, for the record.
    async fn pointed(&self, app: &AppName, channel: &str) -> Result<Option<Value>, Problem> {
        let channels = self.store.channels().await.map_err(broken)?;
        let at = channels.into_iter().find(|one| one.app == *app && one.name == channel);
        Ok(at.map(|one| json!({"release": one.release})))
    }

    /// Notes a change of what is an app's tenant's.
    pub(super) async fn record_of_app(
        &self,
        caller: &Caller,
        app: &AppName,
        action: &'static str,
        target: String,
        before: Option<Value>,
        after: Option<Value>,
    ) {
        let owner = match self.store.owner(app).await {
            Ok(Owner::Tenant(owner)) if owner != OPERATOR_TENANT => Some(owner),
            Ok(Owner::Tenant(_) | Owner::Nobody) | Err(_) => None,
        };
        self.record(caller, owner, action, target, before, after).await;
    }

    fn check_site(&self, site: &str) -> Result<(), Problem> {
        let nodes = self.coordinator.fleet.nodes();
        let sites: BTreeSet<&str> = nodes.values().map(|node| node.record.site.as_str()).collect();
        if sites.contains(site) {
            return Ok(());
        }
        let sites: Vec<&str> = sites.into_iter().collect();
        let site: String = site.chars().take(60).collect();
        Err(ProblemKind::PathUnknown.because(format!("No site is called `{site}`. There are: {}.", sites.join(", "))))
    }

    /// How a release is doing on a site.
    pub(crate) async fn replica(
        &self,
        caller: &Caller,
        app: &str,
        number: &str,
        site: &str,
    ) -> Result<Replica, Problem> {
        self.check_site(site)?;
        let record = self.own_release(caller, app, number, Right::AppsRead).await?;
        self.replica_of(&record, site).await
    }

    async fn replica_of(&self, record: &ReleaseRecord, site: &str) -> Result<Replica, Problem> {
        let placements = self.store.placements().await.map_err(broken)?;
        let wanted = placements
            .into_iter()
            .find(|one| one.app == record.app.as_str() && one.release == record.number && one.site == site);
        let policy = wanted.map_or(ReplicaPolicy::default(), |wanted| wanted.policy);
        let state = replica_at(&self.coordinator.fleet.nodes(), site, &record.content);
        Ok(Replica { site: site.to_owned(), policy, state })
    }

    /// Says how much a release is wanted on a site.
    pub(crate) async fn set_replica(
        &self,
        caller: &Caller,
        app: &str,
        number: &str,
        site: &str,
        request: SetReplica,
    ) -> Result<Replica, Problem> {
        self.check_site(site)?;
        let record = self.own_release(caller, app, number, Right::AppsWrite).await?;
        self.store.set_placement(&record.app, record.number, site, request.policy).await.map_err(broken)?;
        let (target, after) = (format!("{} {} {site}", record.app, record.number), json!({"policy": request.policy}));
        self.record_of_app(caller, &record.app, "replica.policy", target, None, Some(after)).await;
        info!(app = %record.app, release = record.number, site, policy = ?request.policy, "placement changed");
        self.refresh_catalogue().await?;
        self.coordinator.fleet.want_all();
        self.replica_of(&record, site).await
    }
}
