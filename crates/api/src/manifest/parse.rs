//! From text to a [`Manifest`]: total, size-limited, every fault with its line and a remedy.
//!
//! Two steps: serde takes the shape (unknown keys refused), then [`Checker`] looks at the values and collects all faults.

mod input;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use self::input::RawInput;
use super::error::position;
use super::{
    AppName, ConcurrentSaves, Launch, Limits, MAX_MANIFEST_BYTES, Manifest, ManifestError, ManifestErrors, PackagePath,
    Placeholder, Saves, SessionRules,
};
use crate::fleet::{STANDARD_CLASS, is_place_name};
use crate::spec::{MAX_EDGE, MAX_FRAMES_PER_SECOND, MIN_EDGE, SpecRange, StreamSpec};
use crate::streamer::DisplayProtocol;

/// Variables that Kite sets itself: a manifest that set them would break the display, the sound or the isolation.
const RESERVED_VARIABLES: &[&str] =
    &["DISPLAY", "HOME", "PULSE_SERVER", "SDL_AUDIODRIVER", "USER", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    name: Spanned<String>,
    title: Spanned<String>,
    #[serde(default)]
    summary: Option<Spanned<String>>,
    picture: Option<Spanned<String>>,
    #[serde(default)]
    display: DisplayProtocol,
    launch: RawLaunch,
    #[serde(default)]
    input: RawInput,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    saves: RawSaves,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    session: RawSession,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLaunch {
    command: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    environment: BTreeMap<Spanned<String>, Spanned<String>>,
    working_directory: Option<Spanned<String>>,
    home: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    min: Option<Spanned<RawStreamSpec>>,
    max: Option<Spanned<RawStreamSpec>>,
    default: Option<Spanned<RawStreamSpec>>,
    class: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStreamSpec {
    width: u32,
    height: u32,
    frames_per_second: u16,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSaves {
    #[serde(default)]
    paths: Vec<Spanned<String>>,
    #[serde(default)]
    online: bool,
    checkpoint_s: Option<Spanned<u32>>,
    #[serde(default)]
    concurrent: ConcurrentSaves,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    memory_mb: Option<Spanned<u32>>,
    cpus: Option<Spanned<f32>>,
    processes: Option<Spanned<u32>>,
    disk_mb: Option<Spanned<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSession {
    idle_timeout_s: Option<Spanned<u32>>,
    start_timeout_s: Option<Spanned<u32>>,
    stop_grace_s: Option<Spanned<u32>>,
    clean_exit_codes: Option<Spanned<Vec<u8>>>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Every fault with its line, or the first one when the text is no TOML of the right shape.
    pub fn parse(text: &str) -> Result<Self, ManifestErrors> {
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestErrors(vec![ManifestError {
                line: 1,
                column: 1,
                message: format!("the file has {} bytes, but a manifest has at most {MAX_MANIFEST_BYTES}", text.len()),
                remedy: "Is this the right file? Move what is not Kite's into a file of its own.".to_owned(),
            }]));
        }
        let raw: RawManifest = toml::from_str(text).map_err(|error| ManifestErrors(vec![shape_error(text, &error)]))?;
        let mut checker = Checker { text, errors: Vec::new() };
        let manifest = check(&mut checker, raw);
        checker.errors.sort_by_key(|error| (error.line, error.column));
        match manifest {
            Some(manifest) if checker.errors.is_empty() => Ok(manifest),
            _ => Err(ManifestErrors(checker.errors)),
        }
    }
}

/// A fault that serde or the TOML parser found.
fn shape_error(text: &str, error: &toml::de::Error) -> ManifestError {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let remedy = if message.contains("unknown field") {
        "Correct its spelling or remove it; docs/manifest.md lists every field."
    } else if message.contains("missing field") {
        "Add it; docs/manifest.md shows an example."
    } else if message.contains("unknown variant") {
        "Use one of the words listed."
    } else if message.contains("invalid type") || message.contains("invalid value") {
        "Give a value of the expected kind; docs/manifest.md lists the kind of every field."
    } else if message.contains("duplicate key") {
        "Keep one of the two."
    } else {
        "Correct the TOML here: strings need quotes, tables start with [name]."
    };
    ManifestError { line, column, message, remedy: remedy.to_owned() }
}

/// Collects faults.
struct Checker<'a> {
    text: &'a str,
    errors: Vec<ManifestError>,
}

impl Checker<'_> {
    fn fault(&mut self, span: Range<usize>, message: impl Into<String>, remedy: impl Into<String>) {
        let (line, column) = position(self.text, span.start);
        self.errors.push(ManifestError { line, column, message: message.into(), remedy: remedy.into() });
    }

    /// A text for people: not empty, not long, one line, no control characters.
    fn words(&mut self, field: &str, value: &Spanned<String>, max_chars: usize) -> String {
        let text = value.get_ref();
        let chars = text.chars().count();
        if text.trim().is_empty() {
            self.fault(value.span(), format!("`{field}` is empty"), "Write what players shall read.");
        } else if chars > max_chars {
            self.fault(
                value.span(),
                format!("`{field}` has {chars} characters"),
                format!("Shorten it to at most {max_chars}."),
            );
        } else if text.chars().any(char::is_control) {
            self.fault(value.span(), format!("`{field}` has control characters"), "Write it as one plain line.");
        }
        text.clone()
    }

    fn number<T: PartialOrd + Copy + std::fmt::Display>(
        &mut self,
        field: &str,
        value: Option<Spanned<T>>,
        range: std::ops::RangeInclusive<T>,
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        if !range.contains(value.get_ref()) {
            let message = format!("`{field}` is {}", value.get_ref());
            let remedy =
                format!("Give a number from {} to {}; without the line it is {default}.", range.start(), range.end());
            self.fault(value.span(), message, remedy);
        }
        value.into_inner()
    }

    fn package_path(&mut self, field: &str, value: Option<Spanned<String>>) -> Option<PackagePath> {
        let value = value?;
        let span = value.span();
        let path = PackagePath::try_from(value.into_inner()).ok();
        if path.is_none() {
            self.fault(
                span,
                format!("`{field}` is no path inside of the package"),
                "Give a relative path with `/` and without `..`, for example \"picture.png\".",
            );
        }
        path
    }

    /// A string in which placeholders are replaced: none unknown, no NUL.
    fn template(&mut self, field: &str, value: &Spanned<String>) -> String {
        let text = value.get_ref();
        if text.contains('\0') || text.len() > 4096 {
            self.fault(value.span(), format!("`{field}` has a NUL or more than 4096 bytes"), "Shorten it.");
        }
        for word in unknown_placeholders(text) {
            let known: Vec<&str> = Placeholder::ALL.iter().map(|placeholder| placeholder.text()).collect();
            self.fault(
                value.span(),
                format!("`{word}` in `{field}` is no placeholder"),
                format!("Use one of {}.", known.join(" ")),
            );
        }
        text.clone()
    }
}

/// Words in angle brackets that look like placeholders but are none.
fn unknown_placeholders(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let tail = &rest[start..];
        let Some(length) = tail.find('>') else { break };
        let word = &tail[..=length];
        let inner = &word[1..length];
        let looks_like_one = !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric());
        if looks_like_one && Placeholder::ALL.iter().all(|placeholder| placeholder.text() != word) {
            found.push(word);
        }
        // A `<` inside of the word may begin the true one.
        rest = &tail[1..];
    }
    found
}

fn check(checker: &mut Checker<'_>, raw: RawManifest) -> Option<Manifest> {
    let name_span = raw.name.span();
    let name = AppName::try_from(raw.name.into_inner());
    if let Err(error) = &name {
        checker.fault(name_span, error.to_string(), "Choose a short name such as \"chocolate-doom\".");
    }
    let title = checker.words("title", &raw.title, 80);
    let summary = raw.summary.map(|summary| checker.words("summary", &summary, 400)).unwrap_or_default();
    let picture = check_picture(checker, raw.picture);
    let launch = check_launch(checker, raw.launch);
    let input = input::check(checker, raw.input);
    let spec = check_spec(checker, &raw.spec);
    let class = check_class(checker, raw.spec.class);
    let saves = check_saves(checker, &raw.saves);
    let limits = check_limits(checker, raw.limits);
    let session = check_session(checker, raw.session);
    let name = name.ok()?;
    let display = raw.display;
    Some(Manifest { name, title, summary, picture, launch, display, input, spec, class, saves, limits, session })
}

fn check_picture(checker: &mut Checker<'_>, picture: Option<Spanned<String>>) -> Option<PackagePath> {
    let span = picture.as_ref().map(Spanned::span)?;
    let path = checker.package_path("picture", picture)?;
    let known = [".png", ".jpg", ".jpeg", ".webp"];
    if !known.iter().any(|ending| path.as_str().ends_with(ending)) {
        checker.fault(span, "`picture` is no PNG, JPEG or WebP file by its name", "Name it .png, .jpg or .webp.");
    }
    Some(path)
}

fn check_launch(checker: &mut Checker<'_>, raw: RawLaunch) -> Launch {
    let words = raw.command.get_ref();
    if words.is_empty() || words.len() > 256 {
        checker.fault(
            raw.command.span(),
            format!("`launch.command` has {} words", words.len()),
            "Give the program and its arguments, for example [\"/usr/games/etr\"].",
        );
    }
    if let Some(program) = words.first() {
        let text = program.get_ref();
        if !(text.starts_with('/') || text.starts_with("<base>/")) {
            checker.fault(
                program.span(),
                format!("the program `{text}` is no absolute path"),
                "Write /usr/games/NAME for an installed program, <base>/NAME for one of the package.",
            );
        }
    }
    let command = words.iter().map(|word| checker.template("launch.command", word)).collect();
    let environment = raw.environment.iter().map(|(name, value)| check_variable(checker, name, value)).collect();
    let working_directory = match &raw.working_directory {
        None => Placeholder::Base.text().to_owned(),
        Some(directory) => {
            let text = checker.template("launch.working_directory", directory);
            let place = Placeholder::ALL.iter().any(|place| place.is_place() && text.starts_with(place.text()));
            if !(place || text.starts_with('/')) {
                checker.fault(
                    directory.span(),
                    format!("the working directory `{text}` is no absolute path"),
                    "Begin it with `<base>`, `<home>` or `/`.",
                );
            }
            text
        }
    };
    let home = checker.package_path("launch.home", raw.home);
    Launch { command, environment, working_directory, home }
}

fn check_variable(checker: &mut Checker<'_>, name: &Spanned<String>, value: &Spanned<String>) -> (String, String) {
    let text = name.get_ref();
    let start_ok = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !start_ok || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        checker.fault(
            name.span(),
            format!("`{text}` is no name of a variable"),
            "Use letters, digits and `_`, not beginning with a digit.",
        );
    }
    if RESERVED_VARIABLES.contains(&text.as_str()) {
        checker.fault(name.span(), format!("`{text}` is set by Kite"), "Remove it.");
    }
    (text.clone(), checker.template("launch.environment", value))
}

fn check_spec(checker: &mut Checker<'_>, raw: &RawSpec) -> SpecRange {
    let standard = SpecRange::default();
    let mut one = |field: &str, value: &Option<Spanned<RawStreamSpec>>| -> Option<StreamSpec> {
        let value = value.as_ref()?;
        let RawStreamSpec { width, height, frames_per_second } = *value.get_ref();
        for (edge, pixels) in [("width", width), ("height", height)] {
            if !(MIN_EDGE..=MAX_EDGE).contains(&pixels) || pixels % 2 != 0 {
                checker.fault(
                    value.span(),
                    format!("`{edge}` of `spec.{field}` is {pixels}"),
                    format!("Give an even number from {MIN_EDGE} to {MAX_EDGE}."),
                );
            }
        }
        if !(1..=MAX_FRAMES_PER_SECOND).contains(&frames_per_second) {
            checker.fault(
                value.span(),
                format!("`frames_per_second` of `spec.{field}` is {frames_per_second}"),
                format!("Give a number from 1 to {MAX_FRAMES_PER_SECOND}."),
            );
        }
        Some(StreamSpec { width, height, frames_per_second })
    };
    let min = one("min", &raw.min).unwrap_or(standard.min);
    let max = one("max", &raw.max).unwrap_or(standard.max);
    let default = one("default", &raw.default);
    let range = SpecRange { min, max, default: default.unwrap_or_else(|| clamp(standard.default, min, max)) };
    let ordered = min.width <= max.width && min.height <= max.height && min.frames_per_second <= max.frames_per_second;
    if !ordered {
        let span = raw.min.as_ref().or(raw.max.as_ref()).map_or(0..0, Spanned::span);
        checker.fault(span, "`spec.min` is larger than `spec.max`", "Make every number of min at most that of max.");
    } else if let (Some(default), Err(error)) = (&raw.default, range.check(range.default)) {
        checker.fault(default.span(), format!("`spec.default`: {error}"), "Choose a default between min and max.");
    }
    range
}

fn check_class(checker: &mut Checker<'_>, class: Option<Spanned<String>>) -> String {
    let Some(class) = class else { return STANDARD_CLASS.to_owned() };
    if !is_place_name(class.get_ref()) {
        checker.fault(
            class.span(),
            "`spec.class` is no name of a hardware class",
            "Give 1 to 40 of a-z, 0-9 and `-`: a class that nodes joined with, or leave it away for `standard`.",
        );
    }
    class.into_inner()
}

/// The nearest spec inside of min and max. Total even when they are not in order.
fn clamp(spec: StreamSpec, min: StreamSpec, max: StreamSpec) -> StreamSpec {
    StreamSpec {
        width: spec.width.max(min.width).min(max.width),
        height: spec.height.max(min.height).min(max.height),
        frames_per_second: spec.frames_per_second.max(min.frames_per_second).min(max.frames_per_second),
    }
}

fn check_saves(checker: &mut Checker<'_>, raw: &RawSaves) -> Saves {
    if raw.paths.len() > 64 {
        let span = raw.paths.first().map_or(0..0, Spanned::span);
        checker.fault(span, format!("`saves.paths` has {} entries", raw.paths.len()), "Use `**` to name at most 64.");
    }
    let mut paths = Vec::new();
    for path in &raw.paths {
        let text = checker.template("saves.paths", path);
        let place = Placeholder::ALL.iter().find(|place| text.starts_with(place.text()));
        if !place.is_some_and(|place| place.is_place()) || text.split('/').any(|part| part == "..") {
            checker.fault(
                path.span(),
                format!("the save path `{text}` does not begin with a place, or has `..`"),
                "Begin it with `<home>`, `<xdgData>`, `<xdgConfig>` or `<base>`.",
            );
        }
        paths.push(text);
    }
    let default = Saves::default();
    if let Some(seconds) = raw.checkpoint_s.as_ref().filter(|seconds| (1..10).contains(seconds.get_ref())) {
        checker.fault(
            seconds.span(),
            format!("`saves.checkpoint_s` is {}", seconds.get_ref()),
            "Give 0 for never, or a number from 10 to 3600; without the line it is 60.",
        );
    }
    let checkpoint_s = checker.number("saves.checkpoint_s", raw.checkpoint_s.clone(), 0..=3600, default.checkpoint_s);
    Saves { paths, online: raw.online, checkpoint_s, concurrent: raw.concurrent }
}

fn check_limits(checker: &mut Checker<'_>, raw: RawLimits) -> Limits {
    let default = Limits::default();
    Limits {
        memory_mb: checker.number("limits.memory_mb", raw.memory_mb, 64..=262_144, default.memory_mb),
        cpus: checker.number("limits.cpus", raw.cpus, 0.1..=256.0, default.cpus),
        processes: checker.number("limits.processes", raw.processes, 8..=65_536, default.processes),
        disk_mb: checker.number("limits.disk_mb", raw.disk_mb, 16..=1_048_576, default.disk_mb),
    }
}

fn check_session(checker: &mut Checker<'_>, raw: RawSession) -> SessionRules {
    let default = SessionRules::default();
    let clean_exit_codes = match raw.clean_exit_codes {
        None => default.clean_exit_codes,
        Some(codes) => {
            if codes.get_ref().is_empty() || codes.get_ref().len() > 16 {
                let message = format!("`session.clean_exit_codes` has {} entries", codes.get_ref().len());
                checker.fault(codes.span(), message, "Give 1 to 16 statuses; without the line it is [0].");
            }
            codes.into_inner()
        }
    };
    SessionRules {
        idle_timeout_s: checker.number(
            "session.idle_timeout_s",
            raw.idle_timeout_s,
            0..=86_400,
            default.idle_timeout_s,
        ),
        start_timeout_s: checker.number(
            "session.start_timeout_s",
            raw.start_timeout_s,
            1..=600,
            default.start_timeout_s,
        ),
        stop_grace_s: checker.number("session.stop_grace_s", raw.stop_grace_s, 0..=60, default.stop_grace_s),
        clean_exit_codes,
    }
}
