//! `kite doctor`: what this machine has, what is missing, what that costs, and what to do.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use crate::{app, install, say};

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// The data directory that `kite up` uses.
    #[arg(long, env = "KITE_DATA")]
    data: Option<PathBuf>,
}

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Good,
    /// Kite works, but worse.
    Worse,
    /// No game can be played.
    Broken,
}

/// One look at the machine.
#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    what: String,
    /// What is missing costs this, and is mended so.
    advice: Option<String>,
}

fn finding(good: bool, otherwise: Verdict, what: impl Into<String>, advice: &str) -> Finding {
    let verdict = if good { Verdict::Good } else { otherwise };
    Finding { verdict, what: what.into(), advice: (!good).then(|| advice.to_owned()) }
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let data = args.data.clone().unwrap_or_else(install::data_dir);
    let findings: Vec<Finding> =
        [programs(), isolation(), performance(), storage(&data), network(), games()].into_iter().flatten().collect();
    for finding in &findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok     ",
            Verdict::Worse => "worse  ",
            Verdict::Broken => "missing",
        };
        say::out(&format!("{mark}  {}", finding.what));
        if let Some(advice) = &finding.advice {
            say::out(&format!("         {advice}"));
        }
    }
    let broken = findings.iter().filter(|finding| finding.verdict == Verdict::Broken).count();
    let worse = findings.iter().filter(|finding| finding.verdict == Verdict::Worse).count();
    say::out(&match (broken, worse) {
        (0, 0) => "\nThis machine has everything.".to_owned(),
        (0, _) => format!("\nGames can be played; {worse} things could be better."),
        (_, _) => {
            format!("\n{broken} things are missing without which games cannot be played, {worse} could be better.")
        }
    });
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Looks a program up as a shell does.
fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/local/bin".into()]).any(|dir| dir.join(name).is_file())
}

fn programs() -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in ["kite-streamer", "kite-sandbox"] {
        let path = install::program(name);
        let what = format!("{name} beside kite ({})", path.display());
        findings.push(finding(path.is_file(), Verdict::Broken, what, "Build it (./x build) or install it there."));
    }
    let echo = install::program("kite-echo");
    let what = format!("kite-echo beside kite ({})", echo.display());
    let advice = "Players' clients cannot measure the way to this machine. Build it (./x build) or install it there.";
    findings.push(finding(echo.is_file(), Verdict::Worse, what, advice));
    let helpers = [
        ("Xwayland", Verdict::Broken, "Games that need X11 do not start. Debian: apt install xwayland"),
        ("Xvfb", Verdict::Worse, "Games with display = \"xvfb\" do not start. Debian: apt install xvfb"),
        ("pulseaudio", Verdict::Worse, "Games have no sound. Debian: apt install pulseaudio"),
    ];
    for (name, otherwise, advice) in helpers {
        findings.push(finding(in_path(name), otherwise, name, advice));
    }
    let web = install::web_dir();
    findings.push(finding(web.is_some(), Verdict::Worse, "web pages", "Only the API works. Build them: ./x build"));
    findings
}

fn isolation() -> Vec<Finding> {
    let user_namespaces = fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() != "0")
        && fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").map_or(true, |n| n.trim() != "0")
        && fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
            .map_or(true, |n| n.trim() != "1");
    let overlay = fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\toverlay"))
        || Path::new("/sys/module/overlay").exists();
    let fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    let (groups, groups_good) = control_groups();
    vec![
        finding(
            is_root() || user_namespaces,
            Verdict::Broken,
            if is_root() { "root: every game gets a user of its own" } else { "user namespaces" },
            "Games cannot be isolated. Run as root, or allow user namespaces \
             (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0).",
        ),
        finding(
            overlay,
            Verdict::Worse,
            "overlayfs",
            "Games cannot write to their own files. Load it: modprobe overlay",
        ),
        finding(
            fuse,
            Verdict::Worse,
            "/dev/fuse",
            "Games see no gamepads. Load it (modprobe fuse) and open the device to this user.",
        ),
        finding(
            groups_good,
            Verdict::Worse,
            groups,
            "Memory and CPU limits of games are weaker. Run as root, or under systemd with Delegate=yes.",
        ),
    ]
}

/// What kind of control groups there are, and whether this process may make some.
fn control_groups() -> (String, bool) {
    let Ok(own) = fs::read_to_string("/proc/self/cgroup") else { return ("control groups".to_owned(), false) };
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let dir = if unified {
        let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        PathBuf::from(format!("/sys/fs/cgroup{path}"))
    } else {
        let path = own.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path)).unwrap_or("/");
        PathBuf::from(format!("/sys/fs/cgroup/memory{path}"))
    };
    // A path of the host that a container shows under another root: the root of its own view is then used.
    let dir = if dir.exists() {
        dir
    } else {
        PathBuf::from(if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" })
    };
    let writable = rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK).is_ok();
    (format!("control groups version {}", if unified { 2 } else { 1 }), writable)
}

fn performance() -> Vec<Finding> {
    // Tried rather than read: limits, capabilities and control groups all have a say.
    let realtime = Command::new("chrt").args(["-r", "1", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    let realtime = realtime.is_ok_and(|status| status.success());
    let gpu = fs::read_dir("/dev/dri").is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("renderD")))
    });
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vec![
        finding(
            realtime,
            Verdict::Worse,
            "real-time priority for streams",
            "Streams stutter when the machine is busy. Run as root, or raise RLIMIT_RTPRIO (LimitRTPRIO=20 in systemd).",
        ),
        finding(
            gpu,
            Verdict::Worse,
            "a GPU",
            "Pictures are drawn and encoded by the processor: fewer sessions, lighter games.",
        ),
        finding(
            cores >= 2,
            Verdict::Worse,
            format!("{cores} processor cores"),
            "Game and encoder share one core: use small pictures.",
        ),
    ]
}

fn storage(data: &Path) -> Vec<Finding> {
    let existing = data.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let free_mb = rustix::fs::statvfs(existing).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize) >> 20);
    let writable = rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_ok();
    vec![
        finding(
            writable,
            Verdict::Broken,
            format!("data directory {}", data.display()),
            "It cannot be written: choose another with --data.",
        ),
        finding(
            free_mb >= 512,
            Verdict::Broken,
            format!("{free_mb} MiB free"),
            "No session is taken below 512 MiB: free some space.",
        ),
    ]
}

fn network() -> Vec<Finding> {
    let free = (50_000..50_200_u16).filter(|port| UdpSocket::bind(("0.0.0.0", *port)).is_ok()).count();
    vec![finding(
        free > 0,
        Verdict::Broken,
        format!("{free} of the 200 media ports 50000-50199 are free"),
        "Other programs use them: choose others with --ports.",
    )]
}

fn games() -> Vec<Finding> {
    let places: Vec<PathBuf> = install::games_dir().into_iter().collect();
    let packages = app::packages(&places).unwrap_or_default();
    packages
        .iter()
        .map(|dir| {
            let checked = app::check(dir);
            let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
            let advice = checked.faults.join("; ");
            finding(checked.faults.is_empty(), Verdict::Worse, format!("game {name}"), &advice)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_comes_with_advice() {
        let data = tempfile::tempdir().unwrap();
        let all = [programs(), isolation(), performance(), storage(data.path()), network(), games()];
        for finding in all.into_iter().flatten() {
            assert_eq!(finding.advice.is_some(), finding.verdict != Verdict::Good, "{finding:?}");
            assert!(finding.advice.is_none_or(|advice| !advice.is_empty()));
        }
    }

    #[test]
    fn a_data_directory_that_is_not_there_yet_is_judged_by_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let findings = storage(&dir.path().join("deep/er"));
        assert_eq!(findings[0].verdict, Verdict::Good, "{findings:?}");
    }
}
