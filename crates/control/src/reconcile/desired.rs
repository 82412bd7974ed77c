//! From the sessions that live to the instances that shall be. Pure.

use std::collections::BTreeMap;

use api::content::ReplicaPolicy;
use api::id::SessionId;
use api::node::{DesiredInstance, DesiredInstances, DesiredReplica, DesiredSaves, PackageSource};
use api::session::SessionState;

use crate::app::catalogue::{Catalogue, Source};
use crate::settings::Limits;
use crate::store::SessionRecord;

/// All instances that shall be.
pub(crate) fn desired(
    live: &[SessionRecord],
    mut saves: BTreeMap<SessionId, DesiredSaves>,
    placements: &[(String, u32, String, ReplicaPolicy)],
    catalogue: &Catalogue,
    limits: &Limits,
) -> DesiredInstances {
    let instances =
        live.iter().filter_map(|record| instance(record, saves.remove(&record.id), catalogue, limits)).collect();
    let replicas = placements.iter().filter_map(|(app, release, _, policy)| {
        let package = catalogue.played(&app.parse().ok()?, Some(*release))?;
        match &package.source {
            Source::Release { content, .. } => Some(DesiredReplica { content: content.clone(), policy: *policy }),
            Source::Directory(_) => None,
        }
    });
    DesiredInstances { instances, replicas: replicas.collect() }
}

fn instance(
    record: &SessionRecord,
    saves: Option<DesiredSaves>,
    catalogue: &Catalogue,
    limits: &Limits,
) -> Option<DesiredInstance> {
    let stop = match record.state {
        SessionState::Requested
        | SessionState::Queued { .. }
        | SessionState::Offered { .. }
        | SessionState::Recovering { .. }
        | SessionState::Ended { .. } => return None,
        SessionState::Stopping { reason } => Some(reason),
        SessionState::Reserved
        | SessionState::Preparing { .. }
        | SessionState::Ready { .. }
        | SessionState::Connected { .. }
        | SessionState::Reconnecting { .. } => None,
    };
    // A claim is made for packages of the catalogue alone; directories' do not change while the process lives, releases never.
    let package = catalogue.played(&record.app, record.release)?;
    let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs().max(1)).unwrap_or(u32::MAX);
    Some(DesiredInstance {
        instance: record.instance,
        epoch: record.epoch,
        manifest: Box::new(package.manifest.clone()),
        package: match &package.source {
            Source::Directory(dir) => PackageSource::Directory { dir: dir.clone() },
            Source::Release { content, .. } => PackageSource::Release { content: content.clone() },
        },
        spec: record.spec,
        resizable: record.resizable,
        saves,
        connect_timeout_s: seconds(limits.connect_timeout),
        reconnect_grace_s: seconds(limits.reconnect_grace),
        stop,
    })
}
