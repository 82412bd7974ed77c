//! What the tests of a running sandbox share: a fresh place on disk, a uid, and a script run inside.
#![allow(dead_code, reason = "each test program uses its part")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sandbox::{Exit, Identity, Log, Running, Sandbox};
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Longest that any test's game may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A place on disk for one sandbox.
pub(crate) struct Place {
    pub(crate) root: TempDir,
    pub(crate) name: String,
    pub(crate) uid: u32,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("kite-sandbox-test-").tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["home", "layer", "package"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            root,
            name: format!("test-{}-{number}", std::process::id()),
            uid: 300_000 + (std::process::id() % 10_000) * 64 + number,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A sandbox that runs a shell script.
    pub(crate) fn script(&self, script: &str) -> Sandbox {
        self.command(["/bin/sh", "-c", script])
    }

    pub(crate) fn command<const N: usize>(&self, command: [&str; N]) -> Sandbox {
        let mut sandbox = Sandbox::new(&self.name, command.map(OsString::from).into(), self.path("home"));
        sandbox.helper = Some(env!("CARGO_BIN_EXE_kite-sandbox").into());
        sandbox.log = Some(Log { file: self.path("log"), max_bytes: 1 << 20 });
        if is_root() {
            sandbox.identity = Identity::Own { uid: self.uid, gid: self.uid };
        }
        sandbox
    }

    /// With the package at `/app`, and its layer.
    pub(crate) fn with_package(&self, mut sandbox: Sandbox) -> Sandbox {
        sandbox.package = Some(self.path("package"));
        sandbox.layer_dir = Some(self.path("layer"));
        sandbox
    }

    pub(crate) fn log(&self) -> String {
        let older = fs::read_to_string(self.path("log.1")).unwrap_or_default();
        older + &fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs to the end; the exit and what was printed.
    pub(crate) fn run(&self, sandbox: Sandbox) -> (Exit, String) {
        let mut running = sandbox.start().unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        let exit = running.wait_timeout(PATIENCE).expect("the game ends");
        (exit, self.log())
    }

    /// Runs a script that must succeed; what it printed.
    pub(crate) fn output(&self, script: &str) -> String {
        let (exit, output) = self.run(self.script(script));
        assert_eq!(exit, Exit::Code(0), "{output}");
        output
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until the log contains a text.
pub(crate) fn wait_for_log(place: &Place, running: &mut Running, text: &str) {
    for _ in 0..1000 {
        if place.log().contains(text) {
            return;
        }
        assert_eq!(running.try_wait(), None, "ended early: {}", place.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no {text:?} in {:?}", place.log());
}
