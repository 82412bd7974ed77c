//! The same for a caller who is not root, in a user namespace.
//!
//! Each test starts this program again as `nobody`, where `/dev/fuse` is open to all, as distributions have it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking, its helpers too")]

mod world;

use std::fs;
use std::process::Command;
use std::time::Duration;

use gamepad::{Backend, Pads};
use sandbox::{Exit, FuseDevice, Gamepads, Mechanism};
use wire::{PadButtons, PadState};
use world::{Place, is_root, wait_for_log};

/// Runs a test as nobody when it is not already run so.
fn as_nobody(test: &str, body: impl FnOnce()) {
    if !is_root() {
        return body();
    }
    let place = Place::new();
    let script = "mknod -m 666 \"$0/fuse\" c 10 229 && mount --bind \"$0/fuse\" /dev/fuse && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(place.root.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_game_is_isolated() {
    as_nobody("a_game_is_isolated", || {
        let place = Place::new();
        let output = place.output(
            "id -u; id -un; ls /; ls -d /proc/[0-9]* | wc -l; tail -n +3 /proc/net/dev | cut -d: -f1
             grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status
             unshare -Ur true 2>&1; mount -t tmpfs x /tmp 2>&1; kill -9 1; echo still
             for path in /x /etc/passwd /usr/x /dev/x /run/x; do (echo > $path) 2>/dev/null && echo WROTE $path; done
             for path in /root /work /etc/shadow /var/lib /opt; do [ -e $path ] && echo FOUND $path; done; true",
        );
        assert!(output.starts_with("1000\nplayer\n"), "{output}");
        assert!(!output.contains("WROTE") && !output.contains("FOUND"), "{output}");
        for line in [
            "CapPrm:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "still",
            "Operation not permitted",
        ] {
            assert!(output.contains(line), "{line} in {output}");
        }
    });
}

#[test]
fn the_package_has_its_layer() {
    as_nobody("the_package_has_its_layer", || {
        let place = Place::new();
        fs::write(place.path("package/game.cfg"), "original").unwrap();
        fs::write(place.path("package/gone"), "original").unwrap();
        let (exit, output) =
            place
                .run(place.with_package(
                    place.script("echo changed > game.cfg; rm gone; touch new; ls; echo saved > ~/save"),
                ));
        assert_eq!((exit, output.as_str()), (Exit::Code(0), "game.cfg\nnew\n"));
        assert_eq!(fs::read_to_string(place.path("package/game.cfg")).unwrap(), "original");
        assert!(place.path("package/gone").exists());
        assert_eq!(fs::read_to_string(place.path("home/save")).unwrap(), "saved\n");
        // The caller can remove all of it.
        place.root.close().unwrap();
    });
}

#[test]
fn limits_without_control_groups_are_said_to_be_weaker() {
    as_nobody("limits_without_control_groups_are_said_to_be_weaker", || {
        let place = Place::new();
        let mut sandbox = place.command(["/usr/bin/perl", "-e", "my @a; push @a, \"x\" x 1_000_000 while 1"]);
        sandbox.limits.memory_bytes = 64 << 20;
        let mut running = sandbox.start().unwrap();
        let enforced = running.enforced();
        let exit = running.wait_timeout(world::PATIENCE).unwrap();
        assert_ne!(exit, Exit::Code(0));
        if enforced.memory == Mechanism::ProcessLimit {
            assert_eq!(enforced.processes, Mechanism::ProcessLimit);
            assert!(place.log().contains("Out of memory"), "{exit:?} {}", place.log());
        } else {
            // The machine delegates control groups to ordinary users.
            assert_eq!(exit, Exit::OutOfMemory);
        }
    });
}

#[test]
fn a_fork_bomb_is_bounded() {
    as_nobody("a_fork_bomb_is_bounded", || {
        let place = Place::new();
        let mut sandbox = place.script(
            "exec perl -e 'while (1) { defined(fork) or print(\"fork: $!\\n\"), select(undef, undef, undef, 0.1) }'",
        );
        sandbox.limits.processes = 50;
        let mut running = sandbox.start().unwrap();
        wait_for_log(&place, &mut running, "fork: ");
        assert!(running.usage().processes <= 60, "{:?}", running.usage());
        running.stop(Duration::ZERO);
        assert!(running.wait_timeout(Duration::from_secs(5)).is_some());
    });
}

#[test]
fn pads_work() {
    as_nobody("pads_work", || {
        let place = Place::new();
        let mut sandbox = place.script("ls /dev/input; head -c 24 /dev/input/event0 | od -An -tu2 -j16 -N4");
        let device = FuseDevice::open(sandbox.helper.as_deref()).unwrap();
        let pads = Pads::start(Backend::Fuse(device.server_descriptor().unwrap()), Box::new(drop)).unwrap();
        sandbox.gamepads = Gamepads::Fuse(device);
        pads.connect(0).unwrap();
        let mut game = sandbox.start().unwrap();
        let mut bit = 0;
        let exit = (0..500).find_map(|_| {
            bit ^= 1;
            pads.update(0, &PadState { buttons: PadButtons(bit), ..PadState::default() }).unwrap();
            game.wait_timeout(Duration::from_millis(20))
        });
        assert_eq!(exit, Some(Exit::Code(0)), "{}", place.log());
        assert_eq!(place.log(), "event0\n     1   304\n");
    });
}
