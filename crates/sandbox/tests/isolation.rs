//! What a game sees and reaches, asked from inside.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking, its helpers too")]

mod world;

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use sandbox::{Exit, Network, StartError};
use world::{Place, is_root, wait_for_log};

#[test]
fn the_hosts_files_are_not_there() {
    let place = Place::new();
    fs::write(place.path("secret"), "secret").unwrap();
    let listing = place.output(&format!(
        "for path in /root /work /etc/shadow /etc/ssh /etc/sudoers /var/lib /boot /srv /mnt /media /opt /home/../root {} {}; do
             if [ -e $path ]; then echo FOUND $path; fi
         done
         ls -1 / /home /etc/passwd; cat /etc/passwd; ls -1A /tmp /run /dev",
        place.root.path().display(),
        place.path("secret").display(),
    ));
    assert!(!listing.contains("FOUND"), "{listing}");
    let root: Vec<&str> = listing.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let known = [
        "app", "bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "tmp",
        "usr", "var",
    ];
    assert!(listing.contains("player:x:"), "{listing}");
    for entry in root.iter().filter(|line| !line.contains(':') && !line.starts_with('/')) {
        assert!(
            known.contains(entry)
                || [
                    "player", "host", "kite", "fd", "full", "input", "null", "random", "shm", "stderr", "stdin",
                    "stdout", "urandom", "zero"
                ]
                .contains(entry),
            "{entry} in {listing}"
        );
    }
}

#[test]
fn only_its_own_processes_are_there() {
    let place = Place::new();
    let output = place.output("ls -d /proc/[0-9]* | wc -l; cat /proc/1/environ /proc/1/cmdline 2>&1; echo; kill -9 1; echo still; ls /proc/1/root 2>&1; true");
    let count: u32 = output.lines().next().unwrap().parse().unwrap();
    assert!(count <= 4, "{output}");
    assert!(output.contains("still"), "{output}");
    assert!(!output.contains("kite-sandbox"), "{output}");
}

#[test]
fn there_is_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let place = Place::new();
    let output = place.output(&format!(
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '
         perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(PeerAddr => \"127.0.0.1:{port}\", Timeout => 2) ? \"CONNECTED\" : \"refused: $@\"'
         perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") or die; print \"\\nloopback \", IO::Socket::INET->new(PeerAddr => \"127.0.0.1\", PeerPort => $l->sockport) ? \"works\" : \"fails\", \"\\n\"'"
    ));
    assert_eq!(output.lines().next(), Some("lo"), "{output}");
    assert!(output.contains("refused"), "{output}");
    assert!(output.contains("loopback works"), "{output}");
}

#[test]
fn the_hosts_network_is_there_when_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let place = Place::new();
    let mut sandbox = place.script(&format!(
        "perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(PeerAddr => \"127.0.0.1:{port}\", Timeout => 2) ? \"CONNECTED\" : \"refused\"'"
    ));
    sandbox.network = Network::Host;
    let (_, output) = place.run(sandbox);
    assert!(output.contains("CONNECTED"), "{output}");
}

#[test]
fn nothing_of_the_runtime_can_be_written() {
    let place = Place::new();
    let output = place.output(
        "for path in /usr/x /usr/bin/x /etc/x /etc/passwd /bin/x /dev/x /x /run/x /proc/sys/kernel/hostname /var/x /sys/x; do
             if (echo x > $path) 2>/dev/null; then echo WROTE $path; fi
         done
         for path in $HOME/x /tmp/x /dev/shm/x $XDG_RUNTIME_DIR/x; do
             if echo x > $path; then echo fine $path; fi
         done",
    );
    assert!(!output.contains("WROTE"), "{output}");
    assert_eq!(output.matches("fine").count(), 4, "{output}");
}

#[test]
fn writes_go_to_the_layer_and_not_to_the_package() {
    let place = Place::new();
    fs::write(place.path("package/game.cfg"), "original").unwrap();
    fs::write(place.path("package/removed"), "still here").unwrap();
    fs::create_dir(place.path("package/data")).unwrap();
    let script = "cat game.cfg; echo; echo changed > game.cfg; echo new > data/new; rm removed; mv game.cfg moved; mkdir saves; ls; cat moved";
    let mut running = place.with_package(place.script(script)).start().unwrap();
    let owned = running.enforced().package_owned;
    let exit = running.wait();
    let output = place.log();
    assert_eq!(exit, Exit::Code(0), "{output}");
    assert!(owned, "this machine can map ids");
    assert!(output.starts_with("original"), "{output}");
    assert!(output.ends_with("data\nmoved\nsaves\nchanged\n"), "{output}");
    assert_eq!(fs::read_to_string(place.path("package/game.cfg")).unwrap(), "original");
    assert_eq!(fs::read_to_string(place.path("package/removed")).unwrap(), "still here");
    assert_eq!(fs::read_dir(place.path("package/data")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(place.path("layer/upper/moved")).unwrap(), "changed\n");
}

#[test]
fn without_a_layer_the_package_is_read_only() {
    let place = Place::new();
    fs::write(place.path("package/file"), "x").unwrap();
    let mut sandbox = place.script("echo y > /app/file || echo y > /app/new || echo refused");
    sandbox.package = Some(place.path("package"));
    let (_, output) = place.run(sandbox);
    assert!(output.contains("refused"), "{output}");
}

#[test]
fn two_on_one_package_do_not_see_each_other() {
    let (first, second) = (Place::new(), Place::new());
    fs::write(first.path("package/file"), "original\n").unwrap();
    let mut one = first.with_package(
        first.script("echo first > /app/file; echo first > ~/mine; echo first > /tmp/mine; echo ready; sleep 60"),
    );
    one.package = Some(first.path("package"));
    let mut one = one.start().unwrap();
    wait_for_log(&first, &mut one, "ready");
    let mut two = second.with_package(second.script("cat /app/file; ls ~ /tmp; ls /proc | grep -c '^[0-9]'"));
    two.package = Some(first.path("package"));
    let (_, output) = second.run(two);
    assert!(output.starts_with("original\n"), "{output}");
    assert!(!output.contains("mine"), "{output}");
    one.stop(std::time::Duration::ZERO);
    one.wait();
}

#[test]
fn the_home_is_kept() {
    let place = Place::new();
    fs::create_dir(place.path("home/saves")).unwrap();
    fs::write(place.path("home/saves/old"), "restored").unwrap();
    let output = place.output("cat ~/saves/old; echo progress >> ~/saves/old; pwd; stat -c %U ~/saves/old");
    assert_eq!(output, "restored/home/player\nplayer\n");
    assert_eq!(fs::read_to_string(place.path("home/saves/old")).unwrap(), "restoredprogress\n");
}

#[test]
fn privileges_cannot_be_had() {
    let place = Place::new();
    let output = place.output(
        "id -u; grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status
         mount -t tmpfs x /tmp 2>&1 | head -1; umount /tmp 2>&1 | head -1
         unshare -Ur true 2>&1; unshare -m true 2>&1
         su -c id 2>&1 < /dev/null | tail -1
         perl -e '$! = 0; syscall(101, 0, 0, 0, 0); print \"ptrace: $!\\n\"'
         perl -e '$! = 0; syscall(321, 0, 0, 0); print \"bpf: $!\\n\"'
         perl -e '$! = 0; syscall(435, 0, 0); print \"clone3: $!\\n\"'
         chroot / true 2>&1; mknod /tmp/sda b 8 0 2>&1; mknod /tmp/mem c 1 1 2>&1
         echo end",
    );
    assert!(!output.lines().any(|line| line == "0" || line.contains("uid=0")), "{output}");
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(output.contains(line), "{line} in {output}");
    }
    for refused in [
        "mount: ",
        "umount: ",
        "unshare: unshare failed: Operation not permitted",
        "ptrace: Operation not permitted",
        "bpf: Operation not permitted",
        "clone3: Function not implemented",
        "mknod: ",
    ] {
        assert!(output.contains(refused), "{refused} in {output}");
    }
}

#[test]
fn a_set_uid_program_has_no_effect() {
    let place = Place::new();
    // A set-uid root copy of `id`, in the package and in the home.
    for directory in ["package", "home"] {
        let path = place.path(directory).join("rootid");
        fs::copy("/usr/bin/id", &path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    }
    let (_, output) =
        place.run(place.with_package(
            place.script("/app/rootid -u; cp /app/rootid ~/x; chmod u+s ~/x; ~/x -u; ~/rootid -u; id -u"),
        ));
    let ids: Vec<&str> = output.lines().collect();
    assert_eq!(ids.len(), 4, "{output}");
    assert!(ids.iter().all(|id| *id == ids[3] && *id != "0"), "{output}");
}

#[test]
fn nothing_of_the_callers_environment_or_descriptors_leaks() {
    let place = Place::new();
    // An inheritable descriptor of ours.
    let file = fs::File::open("/etc/hostname").unwrap();
    let leaked = rustix::io::dup(&file).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut sandbox = place.script("env; ls -l /proc/$$/fd");
    sandbox.env = vec![("GAME_OPTION".into(), "1".into()), ("LANG".into(), "de_DE.UTF-8".into())];
    let (_, output) = place.run(sandbox);
    assert!(output.contains("GAME_OPTION=1") && output.contains("LANG=de_DE.UTF-8"), "{output}");
    assert!(!output.contains("CARGO"), "{output}");
    let open: Vec<&str> = output.lines().filter_map(|line| line.split_once(" -> ").map(|(_, target)| target)).collect();
    assert!(open.iter().all(|target| *target == "/dev/null" || target.starts_with("pipe:")), "{output}");
}

#[test]
fn its_sockets_are_there_and_no_others() {
    let place = Place::new();
    fs::create_dir(place.path("x11")).unwrap();
    let listen = |name: &str| UnixListener::bind(place.path(name)).unwrap();
    let (wayland, pulse, x11) = (listen("wayland-0"), listen("pulse"), listen("x11/X0"));
    let _other = listen("wayland-1");
    let mut sandbox = place.script(
        "echo $WAYLAND_DISPLAY $DISPLAY $PULSE_SERVER $XDG_RUNTIME_DIR; ls $XDG_RUNTIME_DIR /tmp/.X11-unix
         rm -f /tmp/.X11-unix/X0 $XDG_RUNTIME_DIR/pulse 2>&1 | sed 's/.*: //'
         for s in $XDG_RUNTIME_DIR/wayland-0 $XDG_RUNTIME_DIR/pulse /tmp/.X11-unix/X0; do
             perl -MIO::Socket::UNIX -e 'print IO::Socket::UNIX->new(Peer => shift) ? \"connected\\n\" : \"$!\\n\"' $s
         done",
    );
    sandbox.sockets = sandbox::Sockets {
        wayland: Some(place.path("wayland-0")),
        x11_dir: Some(place.path("x11")),
        pulse: Some(place.path("pulse")),
    };
    let (_, output) = place.run(sandbox);
    assert!(output.starts_with("wayland-0 :0 unix:/run/kite/pulse /run/kite\n"), "{output}");
    assert!(!output.contains("wayland-1"), "{output}");
    assert!(output.ends_with("connected\nconnected\nconnected\n"), "{output}");
    for listener in [wayland, pulse, x11] {
        listener.accept().unwrap();
    }
}

#[test]
fn what_cannot_start_says_why() {
    let place = Place::new();
    let error = place.command(["no-such-game"]).start().unwrap_err();
    assert!(matches!(&error, StartError::Command { detail, .. } if detail.contains("No such file")), "{error}");
    let mut sandbox = place.command(["/bin/true"]);
    sandbox.working_dir = Some("/nowhere".into());
    let error = sandbox.start().unwrap_err();
    assert_eq!(error.to_string(), "cannot enter /nowhere: No such file or directory (os error 2)");
    let mut sandbox = place.command(["/bin/true"]);
    sandbox.helper = Some("/nonexistent/kite-sandbox".into());
    assert!(matches!(sandbox.start().unwrap_err(), StartError::Helper { .. }));
    if is_root() {
        let mut sandbox = place.command(["/bin/true"]);
        sandbox.identity = sandbox::Identity::Caller;
        assert!(matches!(sandbox.start().unwrap_err(), StartError::Settings { field: "identity", .. }));
    }
}
