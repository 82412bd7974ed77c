//! What sessions take, and nodes have and give away of it, for the operator.

use api::fleet::{Amounts, AppDemand, DemandList, ForgottenDemands};
use api::manifest::{AppName, AppNameError};
use api::node::Capacity;
use api::problem::{Problem, ProblemKind};
use api::spec::StreamSpec;
use serde_json::json;
use tracing::info;

use super::access::{Caller, operator};
use super::{Plane, broken};
use crate::demand::{Demand, Key, Learned};
use crate::store::SessionRecord;

impl Plane {
    /// All that was learnt.
    pub(crate) async fn list_demands(&self, caller: &Caller) -> Result<DemandList, Problem> {
        operator(caller)?;
        let learned = self.coordinator.demands.all().into_iter();
        Ok(DemandList { demands: learned.map(|(key, learned)| view(&key, &learned)).collect() })
    }

    /// Forgets what was learnt of an app: it is learnt anew, from the guess on.
    pub(crate) async fn forget_demands(&self, caller: &Caller, app: &str) -> Result<ForgottenDemands, Problem> {
        operator(caller)?;
        let app: AppName =
            app.parse().map_err(|error: AppNameError| ProblemKind::AppUnknown.because(error.to_string()))?;
        let forgotten = self.coordinator.demands.forget(&app);
        let due = self.coordinator.demands.due();
        self.store.write_demands(&due).await.map_err(broken)?;
        self.coordinator.demands.written(&due);
        self.record(caller, None, "demand.forget", &app, Some(json!({"forgotten": forgotten})), None).await;
        info!(%app, forgotten, "what was learnt of an app was forgotten");
        // Who waits for more than there is may fit now.
        self.coordinator.stir_all();
        Ok(ForgottenDemands { forgotten: u32::try_from(forgotten).unwrap_or(u32::MAX) })
    }
}

fn view(key: &Key, learned: &Learned) -> AppDemand {
    AppDemand {
        app: key.app.clone(),
        release: key.release,
        spec: key.spec(),
        takes: taken(learned.demand.rounded(), kpixels(key.spec())),
        is_settled: learned.is_settled(),
        sessions: learned.sessions,
        measured_at: learned.measured_at,
    }
}

fn kpixels(spec: StreamSpec) -> u32 {
    u32::try_from(spec.pixels_per_second().div_ceil(1000)).unwrap_or(u32::MAX)
}

fn taken(demand: Demand, encoder_kpixels: u32) -> Amounts {
    Amounts {
        cpu_milli: Some(demand.cpu_milli),
        memory_mib: Some(demand.memory_mib),
        encoder_kpixels: Some(encoder_kpixels),
        egress_kbps: Some(demand.egress_kbps),
    }
}

/// What a node has.
pub(super) fn capacity(capacity: Capacity) -> Amounts {
    Amounts {
        cpu_milli: capacity.cpu_milli,
        memory_mib: capacity.memory_mib,
        // A node without a bound says the largest number.
        encoder_kpixels: u32::try_from(capacity.pixels_per_second / 1000).ok(),
        egress_kbps: capacity.egress_kbps,
    }
}

/// What sessions take together.
pub(super) fn used<'a>(sessions: impl Iterator<Item = &'a SessionRecord>) -> Amounts {
    let (mut all, mut pixels) = (Demand::default(), 0_u32);
    for session in sessions {
        all = all.plus(session.demand);
        pixels = pixels.saturating_add(kpixels(session.spec));
    }
    taken(all, pixels)
}
