//! From the sessions that live to the instances that shall be. Pure.

use api::node::{DesiredInstance, DesiredInstances};
use api::session::SessionState;

use crate::app::catalogue::Catalogue;
use crate::settings::Limits;
use crate::store::SessionRecord;

/// All instances that shall be.
pub(crate) fn desired(live: &[SessionRecord], catalogue: &Catalogue, limits: &Limits) -> DesiredInstances {
    let instances = live.iter().filter_map(|record| instance(record, catalogue, limits)).collect();
    DesiredInstances { instances }
}

fn instance(record: &SessionRecord, catalogue: &Catalogue, limits: &Limits) -> Option<DesiredInstance> {
    let stop = match record.state {
        SessionState::Ended { .. } => return None,
        SessionState::Stopping { reason } => Some(reason),
        SessionState::Reserved
        | SessionState::Preparing { .. }
        | SessionState::Ready { .. }
        | SessionState::Connected { .. }
        | SessionState::Reconnecting { .. } => None,
    };
    // A claim is made for apps of the catalogue alone, and the catalogue does not change while the process lives.
    let package = catalogue.package(record.app.as_str()).ok()?;
    let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs().max(1)).unwrap_or(u32::MAX);
    Some(DesiredInstance {
        instance: record.instance,
        epoch: record.epoch,
        manifest: Box::new(package.manifest.clone()),
        package_dir: package.dir.clone(),
        spec: record.spec,
        resizable: record.resizable,
        connect_timeout_s: seconds(limits.connect_timeout),
        reconnect_grace_s: seconds(limits.reconnect_grace),
        stop,
    })
}
