//! From the sessions that live to the instances that shall be. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::id::SessionId;
use api::manifest::Manifest;
use api::node::{DesiredInstance, DesiredInstances, DesiredSaves, PackageSource, Warmth};
use api::session::SessionState;

use crate::app::catalogue::{Catalogue, Source};
use crate::settings::Limits;
use crate::store::SessionRecord;

/// All that shall be on a node of this site, which has these sessions.
pub(crate) fn desired(
    live: &[Arc<SessionRecord>],
    mut saves: BTreeMap<SessionId, DesiredSaves>,
    site: &str,
    catalogue: &Catalogue,
    limits: &Limits,
) -> DesiredInstances {
    let instances =
        live.iter().filter_map(|record| instance(record, saves.remove(&record.id), catalogue, limits)).collect();
    DesiredInstances { instances, replicas: catalogue.replicas_on(site), commands: Vec::new() }
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
    let warm = record.pool.map(|_| warmth(&package.manifest));
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
        // Nobody is waited for until somebody has it: its life is bounded here.
        connect_timeout_s: if warm.is_some() { u32::MAX } else { seconds(limits.connect_timeout) },
        reconnect_grace_s: seconds(limits.reconnect_grace),
        stop,
        trace: None,
        warm,
    })
}

/// How far an instance of an app is started for nobody: a game reads its save when it starts.
pub(crate) fn warmth(manifest: &Manifest) -> Warmth {
    if manifest.saves.are_kept() { Warmth::Prepared } else { Warmth::Running }
}
