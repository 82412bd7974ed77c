//! Commands to the instances of sessions: what is asked, what became of it, and its bounds.
//!
//! ```text
//! queued -> running -> done | failed | timed out
//!    |                            ^
//!    +----------------------------+  also without having run
//! ```
//! Deliberately absent: who may ask, and how a command reaches its node ([`crate::node`]).

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::id::{CommandId, NodeId, SessionId};
use crate::manifest::AppName;

/// Longest script. What is longer belongs into the package.
pub const MAX_SCRIPT_BYTES: usize = 64 * 1024;

/// Longest run of a script in seconds. It shares processors and memory with a game that somebody plays.
pub const MAX_TIMEOUT_S: u32 = 300;

/// A script's time when nothing else is asked for, in seconds.
pub const DEFAULT_TIMEOUT_S: u32 = 30;

/// Most bytes of text that are kept of one command, the mark of what was cut included.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// Largest picture: a screen of the largest size that is all noise is shown in half its size.
pub const MAX_PICTURE_BYTES: usize = 8 << 20;

/// Most of the logs that can be asked for: two of them and their headings fit a command's text.
pub const MAX_LOG_KIB: u32 = 120;

/// So much of each log when nothing else is asked for.
pub const DEFAULT_LOG_KIB: u32 = 64;

/// Longest body that asks for a command: the longest script, with an escape for each of its characters.
pub const MAX_COMMAND_BYTES: usize = 3 * MAX_SCRIPT_BYTES;

/// Most commands of one page.
pub const MAX_COMMANDS: u32 = 50;

/// Commands of one page when nothing else is asked for.
pub const DEFAULT_COMMANDS: u32 = 20;

const fn default_timeout_s() -> u32 {
    DEFAULT_TIMEOUT_S
}

const fn default_log_kib() -> u32 {
    DEFAULT_LOG_KIB
}

/// What is asked of a session's instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum CommandRequest {
    /// The session ends; its save is captured first.
    Stop {},
    /// The game is stopped, its save captured, and started again for the same session. Its player's page comes back by itself.
    Restart {},
    /// A script is run by `/bin/sh` inside the game's sandbox, as the game's user. Never outside, and never twice.
    Exec {
        /// The script, 1 byte to 64 KiB, without control characters but tab and the ends of lines.
        script: String,
        /// The script, and all that it started, is killed after so many seconds: 1 to 300. Default: 30.
        #[serde(default = "default_timeout_s")]
        #[schema(minimum = 1, maximum = 300)]
        timeout_s: u32,
    },
    /// The newest output of the game and of its streamer, also of an instance that ended a while ago.
    Logs {
        /// KiB of each, 1 to 120. Default: 64.
        #[serde(default = "default_log_kib")]
        #[schema(minimum = 1, maximum = 120)]
        kib: u32,
    },
    /// A picture of what the game shows now.
    Screenshot {},
}

/// A request that asks for what there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CommandRequestError(&'static str);

impl CommandRequest {
    /// The word of the action.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Stop {} => "stop",
            Self::Restart {} => "restart",
            Self::Exec { .. } => "exec",
            Self::Logs { .. } => "logs",
            Self::Screenshot {} => "screenshot",
        }
    }

    /// Is it within the bounds?
    ///
    /// # Errors
    /// Names the first bound that it is not within.
    pub fn check(&self) -> Result<(), CommandRequestError> {
        let refused = |why| Err(CommandRequestError(why));
        match self {
            Self::Stop {} | Self::Restart {} | Self::Screenshot {} => Ok(()),
            Self::Exec { script, timeout_s } => {
                let is_foreign = |character: char| character.is_control() && !"\n\r\t".contains(character);
                if script.is_empty() || script.len() > MAX_SCRIPT_BYTES {
                    refused("The script has to have 1 byte to 64 KiB.")
                } else if script.contains(is_foreign) {
                    refused("The script has control characters other than tab and the ends of lines.")
                } else if !(1..=MAX_TIMEOUT_S).contains(timeout_s) {
                    refused("`timeout_s` has to be 1 to 300.")
                } else {
                    Ok(())
                }
            }
            Self::Logs { kib } if (1..=MAX_LOG_KIB).contains(kib) => Ok(()),
            Self::Logs { .. } => refused("`kib` has to be 1 to 120."),
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CommandState {
    /// Nobody works on it yet.
    Queued,
    /// It is being done.
    Running,
    /// It was done.
    Done {
        /// Of a script: its exit status; 128 and the signal's number when a signal ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<i32>,
    },
    /// It was not done, or not to its end.
    Failed {
        /// Why, in a sentence.
        why: String,
    },
    /// It took longer than it may. A script and all that it started was killed.
    TimedOut,
}

impl CommandState {
    /// The word that stands in the `state` field.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::TimedOut => "timed_out",
        }
    }

    /// True for the last states.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Done { .. } | Self::Failed { .. } | Self::TimedOut => true,
        }
    }
}

/// What kind of bytes an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// What programs wrote: mostly UTF-8, and whatever else they wrote.
    Text,
    /// A picture.
    Png,
}

impl OutputKind {
    /// The word in JSON and SQL.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Png => "png",
        }
    }

    /// From the word; `None` for a word that is none of ours.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Text, Self::Png].into_iter().find(|kind| kind.word() == word)
    }

    /// Of the bytes.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Png => "image/png",
        }
    }

    /// Most bytes that are kept.
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Text => MAX_TEXT_BYTES,
            Self::Png => MAX_PICTURE_BYTES,
        }
    }
}

/// What a command brought, without the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommandOutput {
    /// What it is.
    pub kind: OutputKind,
    /// How much of it is kept.
    pub bytes: u64,
    /// How much was cut from its middle; a line in the text says where.
    pub cut_bytes: u64,
}

/// In which role somebody asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandRole {
    /// Who has the operator's token.
    Operator,
    /// Who has a tenant's token.
    Tenant,
}

impl CommandRole {
    /// The word in JSON and SQL.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Tenant => "tenant",
        }
    }

    /// From the word; `None` for a word that is none of ours.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Operator, Self::Tenant].into_iter().find(|role| role.word() == word)
    }
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommandSubject {
    /// In which role.
    pub role: CommandRole,
    /// The tenant's name; absent for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A command: who asked for what, when, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// Of which session.
    pub session: SessionId,
    /// What was played.
    pub app: AppName,
    /// On which node it is done; absent when no node has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// What was asked.
    pub request: CommandRequest,
    /// Who asked.
    pub by: CommandSubject,
    /// What became of it.
    pub state: CommandState,
    /// When it was asked for.
    pub created_at: UtcTime,
    /// When it was begun; absent as long as it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<UtcTime>,
    /// When it ended; absent as long as it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UtcTime>,
    /// How long it was at work, in milliseconds; absent as long as it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What it brought; absent without any, and when that was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<CommandOutput>,
}

/// A page of commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommandList {
    /// Newest first.
    pub commands: Vec<Command>,
}

/// Which page of commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CommandsPage {
    /// Only commands that were asked for before this one: the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<CommandId>,
    /// Most commands of the page, 1 to 50. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 50)]
    pub limit: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_with_their_defaults_and_nothing_else() {
        let check = |text: &str, expected: Option<CommandRequest>| {
            assert_eq!(serde_json::from_str(text).ok(), expected, "{text}");
        };
        check(r#"{"action": "stop"}"#, Some(CommandRequest::Stop {}));
        check(r#"{"action": "logs"}"#, Some(CommandRequest::Logs { kib: 64 }));
        let script = || "id".to_owned();
        check(r#"{"action": "exec", "script": "id"}"#, Some(CommandRequest::Exec { script: script(), timeout_s: 30 }));
        check(
            r#"{"action": "exec", "script": "id", "timeout_s": 7}"#,
            Some(CommandRequest::Exec { script: script(), timeout_s: 7 }),
        );
        check(r#"{"action": "exec"}"#, None);
        check(r#"{"action": "stop", "force": true}"#, None);
        check(r#"{"action": "launch"}"#, None);
    }

    #[test]
    fn requests_are_bounded() {
        let check = |request: CommandRequest, expected: &str| {
            let error = request.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{error}");
        };
        let exec = |script: &str, timeout_s| CommandRequest::Exec { script: script.to_owned(), timeout_s };
        check(exec("echo \u{e9}\n\tls\r\n", 300), "");
        check(exec(&"x".repeat(MAX_SCRIPT_BYTES), 1), "");
        check(exec("", 1), "64 KiB");
        check(exec(&"x".repeat(MAX_SCRIPT_BYTES + 1), 1), "64 KiB");
        check(exec("a\0b", 1), "control characters");
        check(exec("id", 0), "timeout_s");
        check(exec("id", 301), "timeout_s");
        check(CommandRequest::Logs { kib: 0 }, "kib");
        check(CommandRequest::Logs { kib: 121 }, "kib");
        check(CommandRequest::Screenshot {}, "");
    }

    #[test]
    fn the_name_of_a_state_and_the_word_of_an_action_are_their_json() {
        let states = [
            CommandState::Queued,
            CommandState::Running,
            CommandState::Done { exit: Some(3) },
            CommandState::Failed { why: "No.".into() },
            CommandState::TimedOut,
        ];
        for state in states {
            let json = serde_json::to_value(&state).unwrap();
            assert_eq!(json["state"], state.name());
            assert_eq!(serde_json::from_value::<CommandState>(json).unwrap(), state);
        }
        let request = CommandRequest::Exec { script: "id".into(), timeout_s: 1 };
        assert_eq!(serde_json::to_value(&request).unwrap()["action"], request.action());
        for kind in [OutputKind::Text, OutputKind::Png] {
            assert_eq!(OutputKind::from_word(kind.word()), Some(kind));
        }
        for role in [CommandRole::Operator, CommandRole::Tenant] {
            assert_eq!(CommandRole::from_word(role.word()), Some(role));
        }
    }
}
