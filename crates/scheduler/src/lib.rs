//! Where a session is placed, who waits, in what order, for how long, and why: a pure function of what it was told.
//!
//! Principles: never oversell a node or a quota; never leave anybody waiting beside a place that he may have; say why, for each site.
//! Deliberately absent: databases, networks, clocks (the time since some beginning is carried in), random numbers.

mod estimate;
mod explain;
mod fleet;
mod queue;
mod quota;
mod request;
mod resources;
mod scheduler;

pub use estimate::Estimate;
pub use explain::{Explanation, Verdict};
pub use fleet::{NodeState, Packing, Presence, SiteSettings};
pub use quota::Grant;
pub use request::{ClassId, NodeId, Priority, Probe, ReleaseId, Request, SessionId, SiteId, TenantId};
pub use resources::{Dimension, Resources, WHOLE_SHARE};
pub use scheduler::{Decision, Event, Refusal, Scheduler, Settings, Taken, WaitReason, Waiting};
