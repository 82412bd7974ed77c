//! A seeded world in virtual time that drives the real [`Scheduler`](scheduler::Scheduler): players come in daily waves, play, leave, miss their
//! offers; nodes are suspected, lost and repaired. What the scheduler promised is compared with what came.
//!
//! Principles: the same seed gives the same day; nothing sleeps. Deliberately absent: being shipped; networks and databases, which the programs'
//! own tests have.

mod plan;
mod report;
mod world;

pub use plan::{Plan, SitePlan, TenantPlan};
pub use report::{Report, Waits};
pub use world::run;
