//! The tables as SeaORM sees them.

pub(super) mod api_key;
pub(super) mod app;
pub(super) mod audit;
pub(super) mod channel_change;
pub(super) mod command;
pub(super) mod command_output;
pub(super) mod condemned;
pub(super) mod demand;
pub(super) mod join_token;
pub(super) mod leadership;
pub(super) mod node;
pub(super) mod placement;
pub(super) mod player;
pub(super) mod pool;
pub(super) mod release;
pub(super) mod retired_root;
pub(super) mod save;
pub(super) mod save_parent;
pub(super) mod session;
pub(super) mod session_save;
pub(super) mod tenant;
pub(super) mod upload;
pub(super) mod upload_object;
pub(super) mod upload_root;
pub(super) mod usage_fact;
pub(super) mod usage_session;
