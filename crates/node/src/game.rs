//! The game of an instance: from its manifest to a process in a sandbox.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::manifest::{Manifest, Placeholder};
use api::node::DesiredInstance;
use api::session::EndReason;
use api::streamer::DisplayProtocol;
use sandbox::{Exit, FuseDevice, Gamepads, Identity, Log, Running, Sandbox, Script, ScriptEnd, Sockets, StartError};
use tokio::io::unix::AsyncFd;

use crate::place::{Place, expand};
use crate::settings::{NodeSettings, has_gpu};
use crate::sys;

/// Most bytes of a game's output that are kept.
const LOG_BYTES: u64 = 4 << 20;

/// What the streamer offers the game.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screen {
    pub(crate) wayland: Option<PathBuf>,
    pub(crate) x11_dir: Option<PathBuf>,
    pub(crate) pulse: Option<PathBuf>,
}

/// A running game.
#[derive(Debug)]
pub(crate) struct Game {
    // Declared first, so that it is dropped first: it holds a duplicate of the sandbox's life line.
    ready: AsyncFd<OwnedFd>,
    running: Option<Running>,
}

/// Everything that is needed to start a game, besides what is desired.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) place: Place,
    /// The package's files.
    pub(crate) package: PathBuf,
    pub(crate) uid: Option<u32>,
    pub(crate) screen: Screen,
}

/// What a placeholder stands for inside of the sandbox.
pub(crate) fn placeholder_value(desired: &DesiredInstance, placeholder: Placeholder) -> String {
    match placeholder {
        Placeholder::Base => sandbox::APP_DIR.to_owned(),
        Placeholder::Home => sandbox::HOME_DIR.to_owned(),
        Placeholder::XdgData => format!("{}/.local/share", sandbox::HOME_DIR),
        Placeholder::XdgConfig => format!("{}/.config", sandbox::HOME_DIR),
        Placeholder::Width => desired.spec.width.to_string(),
        Placeholder::Height => desired.spec.height.to_string(),
        Placeholder::FramesPerSecond => desired.spec.frames_per_second.to_string(),
    }
}

/// Variables of a game besides those that the sandbox sets for home and sockets.
fn environment(manifest: &Manifest, screen: &Screen, gpu: bool) -> Vec<(String, String)> {
    let video = match manifest.display {
        DisplayProtocol::Wayland => "wayland",
        DisplayProtocol::X11 | DisplayProtocol::Xvfb => "x11",
    };
    let mut variables = vec![
        ("LANG", "C.UTF-8"),
        ("SDL_VIDEODRIVER", video),
        ("SDL_AUDIODRIVER", if screen.pulse.is_some() { "pulseaudio" } else { "dummy" }),
        ("XDG_SESSION_TYPE", video),
        // The compositor is never lost behind another window, so a game must not stop when it believes so.
        ("SDL_VIDEO_MINIMIZE_ON_FOCUS_LOSS", "0"),
        ("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1"),
    ];
    if !gpu {
        variables.push(("LIBGL_ALWAYS_SOFTWARE", "1"));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Start {
    /// The sandbox of this game.
    fn sandbox(&self, settings: &NodeSettings, desired: &DesiredInstance, gamepads: Gamepads) -> Sandbox {
        let manifest = &desired.manifest;
        let values = |placeholder| placeholder_value(desired, placeholder);
        let gpu = has_gpu();
        let mut command: Vec<OsString> =
            manifest.launch.command.iter().map(|word| expand(word, &values).into()).collect();
        if command.is_empty() {
            // A manifest that came over the link unparsed; the sandbox refuses it with its own words.
            command.push(OsString::new());
        }
        let mut sandbox = Sandbox::new(desired.instance.to_string(), command, &self.place.home);
        sandbox.working_dir = Some(expand(&manifest.launch.working_directory, &values).into());
        let mut variables = environment(manifest, &self.screen, gpu);
        for (name, value) in &manifest.launch.environment {
            variables.retain(|(other, _)| other != name);
            variables.push((name.clone(), expand(value, &values)));
        }
        sandbox.env = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        sandbox.runtime.extra.extend(manifest.launch.command.first().and_then(|program| settings_of(program)));
        sandbox.package = Some(self.package.clone());
        sandbox.layer_dir = Some(self.place.layer.clone());
        sandbox.sockets = Sockets {
            wayland: self.screen.wayland.clone(),
            x11_dir: self.screen.x11_dir.clone(),
            pulse: self.screen.pulse.clone(),
        };
        sandbox.gamepads = gamepads;
        sandbox.gpu = gpu;
        sandbox.limits.memory_bytes = u64::from(manifest.limits.memory_mb) << 20;
        sandbox.limits.cpu_cores = manifest.limits.cpus;
        sandbox.limits.processes = manifest.limits.processes;
        sandbox.limits.disk_bytes = u64::from(manifest.limits.disk_mb) << 20;
        sandbox.identity = self.uid.map_or(Identity::Caller, |uid| Identity::Own { uid, gid: uid });
        sandbox.log = Some(Log { file: self.place.logs.join("game.log"), max_bytes: LOG_BYTES });
        sandbox.helper.clone_from(&settings.sandbox_program);
        sandbox
    }

    /// Starts it.
    ///
    /// # Errors
    /// The reason for the player, and the detail for the operator.
    pub(crate) async fn start(
        &self,
        settings: &NodeSettings,
        desired: &DesiredInstance,
        gamepads: Option<FuseDevice>,
    ) -> Result<Game, (EndReason, String)> {
        let gamepads = gamepads.map_or(Gamepads::None, Gamepads::Fuse);
        let sandbox = self.sandbox(settings, desired, gamepads);
        let started = tokio::task::spawn_blocking(move || sandbox.start()).await;
        let running = match started {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => return Err((reason_of(&error), describe(&error))),
            Err(error) => return Err((EndReason::SandboxFailed, error.to_string())),
        };
        tracing::debug!(instance = %desired.instance, enforced = ?running.enforced(), "the sandbox stands");
        let ready = running.as_fd().try_clone_to_owned().and_then(sys::watch_readable);
        let ready = ready.map_err(|error| (EndReason::SandboxFailed, error.to_string()))?;
        Ok(Game { ready, running: Some(running) })
    }
}

fn reason_of(error: &StartError) -> EndReason {
    match error {
        StartError::Command { .. } => EndReason::GameStartFailed,
        StartError::Settings { .. } | StartError::Helper { .. } | StartError::Silent(_) | StartError::World { .. } => {
            EndReason::SandboxFailed
        }
    }
}

/// An error with its causes in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What a game's sandbox says.
#[derive(Debug)]
pub(crate) enum News {
    /// The game ended.
    Ended(Exit),
    /// A script beside it did.
    Script(ScriptEnd),
}

impl Game {
    /// What happens next. Safe to cancel.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            let Ok(mut guard) = self.ready.readable().await else { return News::Ended(Exit::Lost) };
            let Some(running) = &mut self.running else { return News::Ended(Exit::Lost) };
            // Looks once; when the game ended it waits for the helper's end, some milliseconds.
            let exit = tokio::task::block_in_place(|| running.try_wait());
            if let Some(end) = running.take_script_end() {
                return News::Script(end);
            }
            if let Some(exit) = exit {
                return News::Ended(exit);
            }
            guard.clear_ready();
        }
    }

    /// Its end. Safe to cancel.
    pub(crate) async fn wait(&mut self) -> Exit {
        loop {
            match self.next().await {
                News::Ended(exit) => return exit,
                News::Script(_) => {}
            }
        }
    }

    /// Runs a script beside it.
    pub(crate) fn run_script(&self, script: Script) -> std::io::Result<()> {
        let Some(running) = &self.running else { return Err(std::io::ErrorKind::NotConnected.into()) };
        // The helper reads as fast as it can; a long script does not fit the socket at once.
        tokio::task::block_in_place(|| running.run_script(script))
    }

    /// Kills a script that nobody waits for any more.
    pub(crate) fn end_script(&self, number: u64) {
        if let Some(running) = &self.running {
            running.end_script(number);
        }
    }

    /// Asks it to end, and kills it after the grace.
    pub(crate) fn stop(&self, grace: Duration) {
        if let Some(running) = &self.running {
            running.stop(grace);
        }
    }

    /// What it used of the machine, for the log.
    pub(crate) fn usage(&self) -> Option<sandbox::Usage> {
        self.running.as_ref().map(Running::usage)
    }
}

/// What an exit means for the player, and for the operator.
pub(crate) fn meaning(exit: Exit, clean_codes: &[u8]) -> (EndReason, String) {
    match exit {
        Exit::Code(code) if clean_codes.iter().any(|clean| i32::from(*clean) == code) => {
            (EndReason::GameExited, format!("the game exited with status {code}"))
        }
        Exit::Code(code) => (EndReason::GameCrashed, format!("the game exited with status {code}")),
        Exit::Signal(signal) => (EndReason::GameCrashed, format!("the game was ended by signal {signal}")),
        Exit::OutOfMemory => (EndReason::OutOfMemory, "the game went over its memory limit".to_owned()),
        Exit::DiskFull => (EndReason::DiskLimit, "the game went over its disk limit".to_owned()),
        Exit::Lost => (EndReason::SandboxFailed, "the sandbox's helper was killed".to_owned()),
    }
}

/// The package's home, when it has one.
pub(crate) fn home_source(desired: &DesiredInstance, package: &Path) -> Option<PathBuf> {
    let home = desired.manifest.launch.home.as_ref()?;
    Some(package.join(home.as_str()))
}

/// Where the distribution keeps the settings of a game of its own: `/etc/NAME` for `/usr/games/NAME`. Programs elsewhere get
/// nothing of `/etc`, so that a package cannot ask for what is not a game's.
fn settings_of(program: &str) -> Option<PathBuf> {
    let name = program.strip_prefix("/usr/games/")?;
    let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    plain.then(|| Path::new("/etc").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_games_of_the_distribution_see_their_settings() {
        let check = |program: &str, expected: Option<&str>| {
            assert_eq!(settings_of(program), expected.map(PathBuf::from), "{program}");
        };
        check("/usr/games/armagetronad", Some("/etc/armagetronad"));
        check("/usr/bin/ssh", None);
        check("/app/ssl", None);
        check("/usr/games/", None);
        check("/usr/games/..", None);
        check("/usr/games/../bin/ssh", None);
    }
}
