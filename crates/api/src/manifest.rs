//! `kite.toml`: what a package says about itself. `docs/manifest.md` is its manual.
//!
//! The types here hold only values that passed [`Manifest::parse`]; who has a [`Manifest`] need not check it again.
//! Deliberately absent: reading files, resolving placeholders.

mod error;
mod keys;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::error::{ManifestError, ManifestErrors};
pub use self::keys::{is_key_code, key_codes};
use crate::fleet::STANDARD_CLASS;
use crate::spec::SpecRange;
use crate::streamer::DisplayProtocol;

/// The manifest's file name in a package.
pub const MANIFEST_FILE: &str = "kite.toml";

/// Longest manifest in bytes. The largest of the demo titles has 3 kB; more is not a manifest.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024;

/// Name of an app: 1 to 40 of `a-z`, `0-9` and `-`, beginning and ending with a letter or a digit. Unique in an installation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "chocolate-doom")]
pub struct AppName(String);

/// A text that is no name of an app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no app name: expected 1 to 40 of a-z, 0-9 and `-`, with a letter or digit at both ends")]
pub struct AppNameError(String);

impl AppName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> Self {
        name.0
    }
}

impl TryFrom<String> for AppName {
    type Error = AppNameError;
    fn try_from(text: String) -> Result<Self, AppNameError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ok =
            (1..=40).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        if ok { Ok(Self(text)) } else { Err(AppNameError(text.chars().take(60).collect())) }
    }
}

impl FromStr for AppName {
    type Err = AppNameError;
    fn from_str(text: &str) -> Result<Self, AppNameError> {
        text.chars().take(60).collect::<String>().try_into()
    }
}

/// Everything that a package says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The app's name.
    pub name: AppName,
    /// What players read, at most 80 characters.
    pub title: String,
    /// One or two sentences for the catalogue, at most 400 characters.
    pub summary: String,
    /// Picture for the catalogue: a PNG, JPEG or WebP file in the package.
    pub picture: Option<PackagePath>,
    /// What is started.
    pub launch: Launch,
    /// Which display the game gets.
    pub display: DisplayProtocol,
    /// What the player can use.
    pub input: InputProfile,
    /// Resolutions and frame rates.
    pub spec: SpecRange,
    /// The hardware class of the nodes that can run it.
    #[serde(default = "standard_class")]
    pub class: String,
    /// What is kept of a play.
    pub saves: Saves,
    /// What the game may use of the machine.
    pub limits: Limits,
    /// When a session ends.
    pub session: SessionRules,
}

/// Releases of before there were classes run on any node of the one that there was.
fn standard_class() -> String {
    STANDARD_CLASS.to_owned()
}

/// A relative path inside of a package, without `..`, not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackagePath(String);

impl PackagePath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<PackagePath> for String {
    fn from(path: PackagePath) -> Self {
        path.0
    }
}

impl TryFrom<String> for PackagePath {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if text.len() <= 200 && text.split('/').all(plain) && !text.contains(['\0', '\\']) {
            Ok(Self(text))
        } else {
            Err("not a relative path inside of the package")
        }
    }
}

/// What is started. `command`, `environment` and `working_directory` may hold the placeholders of [`Placeholder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Program and arguments; the program is an absolute path or begins with `<base>/`.
    pub command: Vec<String>,
    /// Variables added to those that Kite sets.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where it is started; `<base>` when not given.
    pub working_directory: String,
    /// A directory of the package that is copied into the private, empty home before each start. Files of it whose
    /// name ends with `.template` lose that ending and have their placeholders replaced.
    pub home: Option<PackagePath>,
}

/// A word in angle brackets that Kite replaces when it starts a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `<base>`: the package's directory as the game sees it.
    Base,
    /// `<home>`: the private home directory as the game sees it.
    Home,
    /// `<xdgData>`: `<home>/.local/share`.
    XdgData,
    /// `<xdgConfig>`: `<home>/.config`.
    XdgConfig,
    /// `<width>`: the session's picture width in pixels.
    Width,
    /// `<height>`: the session's picture height in pixels.
    Height,
    /// `<framesPerSecond>`: the session's highest frame rate.
    FramesPerSecond,
}

impl Placeholder {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Base, Self::Home, Self::XdgData, Self::XdgConfig, Self::Width, Self::Height, Self::FramesPerSecond];

    /// As it is written in a manifest.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Base => "<base>",
            Self::Home => "<home>",
            Self::XdgData => "<xdgData>",
            Self::XdgConfig => "<xdgConfig>",
            Self::Width => "<width>",
            Self::Height => "<height>",
            Self::FramesPerSecond => "<framesPerSecond>",
        }
    }

    /// True for those that name a place, which a save path has to begin with.
    #[must_use]
    pub const fn is_place(self) -> bool {
        match self {
            Self::Base | Self::Home | Self::XdgData | Self::XdgConfig => true,
            Self::Width | Self::Height | Self::FramesPerSecond => false,
        }
    }
}

/// What the player can use, and how it reaches the game.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InputProfile {
    /// True when the game takes keys.
    pub keyboard: bool,
    /// How the mouse is sent.
    pub mouse: MouseMode,
    /// Gamepads that the game can have, 0 to 4.
    pub gamepads: u8,
    /// Keys that are sent as other keys: what the player presses -> what the game gets, both as `KeyboardEvent.code`.
    pub keys: BTreeMap<String, String>,
    /// What a touch screen does.
    pub touch: Touch,
}

/// How the mouse is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MouseMode {
    /// Relative while the game holds the pointer, absolute else. The default.
    #[default]
    Auto,
    /// Where the player's pointer is, there is the game's. For menus, strategy, point and click.
    Absolute,
    /// Motion alone, with the player's pointer locked. For first-person games that do not lock the pointer themselves.
    Relative,
    /// Not sent.
    None,
}

/// What a touch screen does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Touch {
    /// How fingers are taken.
    pub mode: TouchMode,
    /// The controls of [`TouchMode::Pad`]; a standard gamepad is drawn when it is empty.
    #[serde(default)]
    pub controls: Vec<TouchControl>,
}

/// How fingers are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TouchMode {
    /// One finger is the mouse: it moves the pointer, a tap clicks. The default.
    #[default]
    Pointer,
    /// The game gets the touches themselves.
    Direct,
    /// Controls are drawn over the picture.
    Pad,
}

/// One control drawn over the picture. Places and sizes are fractions: `x` and `y` of the picture's width and height to
/// the middle of the control, `size` of the shorter edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TouchControl {
    /// A round field with a knob.
    Stick {
        /// Read by screen readers, shown under the control; at most 20 characters.
        label: String,
        /// Where.
        place: TouchPlace,
        /// What it sends.
        send: StickBinding,
    },
    /// A button.
    Button {
        /// On the button; at most 20 characters.
        label: String,
        /// Where.
        place: TouchPlace,
        /// What it sends.
        send: ButtonBinding,
    },
    /// The rest of the picture: a drag moves the mouse (to look around). At most one.
    Look {
        /// Pixels of mouse motion a pixel of the finger, 0.1 to 10.
        speed: f32,
    },
}

/// Where a control is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TouchPlace {
    /// Middle, 0 left to 1 right.
    pub x: f32,
    /// Middle, 0 top to 1 bottom.
    pub y: f32,
    /// Diameter as a fraction of the picture's shorter edge, 0.05 to 0.6.
    pub size: f32,
}

/// What a stick sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StickBinding {
    /// Four keys as `KeyboardEvent.code`.
    Keys {
        /// Upwards.
        up: String,
        /// To the left.
        left: String,
        /// Downwards.
        down: String,
        /// To the right.
        right: String,
    },
    /// A stick of gamepad 0.
    Pad(PadStick),
}

/// A stick of a gamepad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PadStick {
    /// Axes 0 and 1.
    Left,
    /// Axes 2 and 3.
    Right,
}

/// What a button sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ButtonBinding {
    /// A key as `KeyboardEvent.code`.
    Key(String),
    /// A mouse button.
    Mouse(MouseButton),
    /// A button of gamepad 0 by its number in the W3C standard mapping, 0 to 16.
    Pad(u8),
}

/// A mouse button.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MouseButton {
    /// Left.
    Left,
    /// Middle.
    Middle,
    /// Right.
    Right,
}

/// What is kept of a play.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saves {
    /// Files and directories, each beginning with a place; `*` matches inside of one name, `**` any depth.
    pub paths: Vec<String>,
    /// True for games that keep their players' progress on servers of their own: nothing is kept here.
    pub online: bool,
    /// Seconds between captures while the game runs, 10 to 3600; 0 = only at the end and when the player is lost.
    pub checkpoint_s: u32,
    /// What a second session of the same player and app does while the first one lives.
    pub concurrent: ConcurrentSaves,
}

impl Default for Saves {
    fn default() -> Self {
        Self { paths: Vec::new(), online: false, checkpoint_s: 60, concurrent: ConcurrentSaves::Refuse }
    }
}

impl Saves {
    /// True when something is to be kept.
    #[must_use]
    pub fn are_kept(&self) -> bool {
        !self.online && !self.paths.is_empty()
    }
}

/// What a second session of the same player and app does while the first one lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConcurrentSaves {
    /// It is refused. The default.
    #[default]
    Refuse,
    /// It begins with the same version as the first one; both ends are kept, and the player chooses before the next play.
    Branch,
}

/// What the game may use of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory in MiB, 64 to 262144. More ends the game with `out_of_memory`.
    pub memory_mb: u32,
    /// Processor cores, 0.1 to 256. More is throttled.
    pub cpus: f32,
    /// Processes and threads, 8 to 65536. More fails in the game.
    pub processes: u32,
    /// Files that one play may write, in MiB, 16 to 1048576. More ends the game with `disk_limit`.
    pub disk_mb: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mb: 2048, cpus: 2.0, processes: 256, disk_mb: 4096 }
    }
}

/// When a session of this app ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRules {
    /// A session without any input for this many seconds ends; 0 = never. Up to 86400.
    pub idle_timeout_s: u32,
    /// A game that has drawn nothing after this many seconds is given up, 1 to 600.
    pub start_timeout_s: u32,
    /// Between the request to stop (`SIGTERM`) and the end by force, in seconds, 0 to 60.
    pub stop_grace_s: u32,
    /// Exit statuses that are no crash, at most 16. Some games leave with 1 when the player quits.
    pub clean_exit_codes: Vec<u8>,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self { idle_timeout_s: 900, start_timeout_s: 30, stop_grace_s: 3, clean_exit_codes: vec![0] }
    }
}

#[cfg(test)]
mod tests;
