//! How long an instance waits for its private copy: `layer_ready PACKAGE PLACE [COUNT] [COMMAND...]` prints one JSON object.
//!
//! Each time, an empty layer and an empty home are made in PLACE, and a command is started in a sandbox over the package. The time
//! ends when the command's program has been executed there: the library mounts a layer only together with the world around it, so that
//! mounting has no figure of its own. The end of the command and the removal of its directories are not in the time.
//!
//! PLACE is a directory on the file system that instances' layers are on. COUNT is 200 when it is not given, the command `/app/run.sh`.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use sandbox::{Exit, Identity, Sandbox, remove_tree};

/// Starts before those that count: the first ones load programs and directories from the disk.
const WARM_UPS: u32 = 20;

/// Longest that the command may take. One that does not end would leave no room to measure.
const PATIENCE: Duration = Duration::from_secs(10);

/// A uid that belongs to nobody on a machine of this kind.
const UID: u32 = 390_000;

/// A failed step: what was done, and why it failed.
type Failure = Box<dyn std::error::Error>;

struct Wanted {
    package: PathBuf,
    place: PathBuf,
    count: u32,
    command: Vec<OsString>,
}

fn wanted() -> Result<Wanted, Failure> {
    let usage = "usage: layer_ready PACKAGE PLACE [COUNT] [COMMAND...]";
    let mut arguments = env::args_os().skip(1);
    let package = fs::canonicalize(arguments.next().ok_or(usage)?)?;
    let place = fs::canonicalize(arguments.next().ok_or(usage)?)?;
    let count = arguments.next().map_or(Ok(200), |count| count.to_string_lossy().parse())?;
    let mut command: Vec<OsString> = arguments.collect();
    if command.is_empty() {
        command.push("/app/run.sh".into());
    }
    if count == 0 {
        return Err(usage.into());
    }
    Ok(Wanted { package, place, count, command })
}

/// From no layer to a running program.
fn once(wanted: &Wanted, place: &Path, number: u32) -> Result<Duration, Failure> {
    let instance = place.join(number.to_string());
    let (layer, home) = (instance.join("layer"), instance.join("home"));
    let begun = Instant::now();
    fs::create_dir(&instance)?;
    fs::create_dir(&layer)?;
    fs::create_dir(&home)?;
    let mut sandbox = Sandbox::new(format!("layer-ready-{}", process::id()), wanted.command.clone(), home);
    sandbox.package = Some(wanted.package.clone());
    sandbox.layer_dir = Some(layer);
    if rustix::process::geteuid().is_root() {
        sandbox.identity = Identity::Own { uid: UID, gid: UID };
    }
    let mut running = sandbox.start()?;
    let took = begun.elapsed();
    let exit = running.wait_timeout(PATIENCE).ok_or("the command does not end")?;
    if exit != Exit::Code(0) {
        return Err(format!("the command ended with {exit:?}").into());
    }
    remove_tree(&instance)?;
    Ok(took)
}

fn measure(wanted: &Wanted, place: &Path) -> Result<Vec<Duration>, Failure> {
    for number in 0..WARM_UPS {
        once(wanted, place, number)?;
    }
    let mut times = (0..wanted.count).map(|number| once(wanted, place, number)).collect::<Result<Vec<_>, _>>()?;
    times.sort();
    Ok(times)
}

/// The value below which so many of a hundred lie (nearest rank), of sorted times, in milliseconds.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times[rank - 1].as_secs_f64() * 1e3
}

fn main() -> Result<(), Failure> {
    let wanted = wanted()?;
    let place = wanted.place.join(format!("layers-{}", process::id()));
    fs::create_dir(&place)?;
    let times = measure(&wanted, &place);
    remove_tree(&place)?;
    let times = times?;
    println!(
        r#"{{"count": {}, "median": {:.3}, "p99": {:.3}, "max": {:.3}}}"#,
        times.len(),
        percentile_ms(&times, 50),
        percentile_ms(&times, 99),
        percentile_ms(&times, 100),
    );
    Ok(())
}
