//! The program of one session: it shows the game to one player and brings the player's input back.
//!
//! | module | does |
//! |---|---|
//! | `agent` | the control socket to the node agent |
//! | `session` | who is there, how long do we wait, why does it end (pure) |
//! | `input` | the client's messages to what the game is given (pure) |
//! | `router` | does at once, on the net thread, what the client's messages ask for |
//! | `video` | the encoder's thread |
//! | `audio`, `sound` | PulseAudio, and its blocks through Opus to the player |
//! | `pads` | the game's gamepads |
//! | `phase` | keeps the game's beat in step with the player's display (pure) |
//! | `net` | sockets and the WebRTC peer |
//! | `ledger` | statistics |
//! | `sinks` | what display, encoder and network report, carried on |
//! | `run` | puts them together, and the main thread |
//!
//! Deliberately absent: databases, HTTP, the sandbox, and any knowledge of tenants or money.

mod agent;
pub mod audio;
mod input;
mod ledger;
pub mod net;
mod pads;
mod phase;
mod router;
mod run;
mod screenshot;
mod session;
mod settings;
mod sinks;
mod sound;
mod sys;
mod video;

pub use agent::AgentError;
pub use run::{RunError, run};
pub use settings::SettingsError;
