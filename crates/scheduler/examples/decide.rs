//! How fast it decides: `decide NODES SESSIONS` fills a fleet, then lets sessions end and others ask, half of the time with a queue; prints JSON.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use impair::Random;
use scheduler::{
    ClassId, Decision, Grant, Packing, Presence, Priority, Probe, ReleaseId, Request, Resources, Scheduler, SessionId,
    Settings, SiteId, SiteSettings, TenantId,
};

const SITES: u32 = 20;
const TENANTS: u32 = 200;
const RELEASES: u32 = 1000;

/// Sites that a player measured.
const PROBES: u32 = 5;

/// A number below the limit.
fn below(random: &mut Random, limit: u32) -> u32 {
    (random.unit() * f64::from(limit)) as u32
}

fn request(random: &mut Random) -> Request {
    let home = below(random, SITES);
    let mut probe = |index| Probe {
        site: SiteId((home + index) % SITES),
        round_trip: Duration::from_millis(u64::from(5 + index * 12 + below(random, 6))),
        loss_permille: u16::try_from(below(random, 3)).unwrap_or(0),
    };
    let probes = (0..PROBES).map(&mut probe).collect();
    let (cores, gpu) = [(1, 100), (2, 200), (4, 350)][below(random, 3) as usize];
    Request {
        tenant: TenantId(below(random, TENANTS)),
        release: ReleaseId(below(random, RELEASES)),
        class: ClassId(0),
        resources: Resources {
            sessions: 1,
            cpu_milli: cores * 1000,
            memory_mib: cores * 2048,
            gpu_milli: gpu,
            encoder_kpixels: 60_000 * cores,
            egress_kbps: 10_000 * cores,
        },
        priority: Priority(u8::try_from(below(random, 3)).unwrap_or(0)),
        is_trial: false,
        probes,
        sites: None,
        most_round_trip: Duration::from_millis(80),
        patience: Duration::from_secs(3600),
    }
}

fn fleet(nodes: u32) -> Scheduler {
    let mut scheduler =
        Scheduler::new(Settings { unknown_round_trip: Duration::from_millis(150), ..Settings::default() });
    for index in 0..SITES {
        let packing = if index % 2 == 0 { Packing::Pack } else { Packing::Spread };
        let site = scheduler.add_site(SiteSettings { cost: index % 7, packing });
        for release in 0..RELEASES {
            scheduler.set_presence(Duration::ZERO, site, ReleaseId(release), Some(Presence::Present));
        }
    }
    for tenant in 0..TENANTS {
        let grant = Grant { guarantee: 1_000_000, borrow: 0, maximum: 1_000_000, weight: 1 + tenant % 5 };
        scheduler.set_grant(Duration::ZERO, TenantId(tenant), grant);
    }
    let node = Resources {
        sessions: 40,
        cpu_milli: 64_000,
        memory_mib: 131_072,
        gpu_milli: 8000,
        encoder_kpixels: 8_000_000,
        egress_kbps: 10_000_000,
    };
    for index in 0..nodes {
        scheduler.add_node(Duration::ZERO, SiteId(index % SITES), ClassId(0), node);
    }
    scheduler
}

struct Figures {
    /// Of a second of one processor, which others of the machine may take away in between.
    per_s: f64,
    per_wall_s: f64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

/// So many sessions end and as many ask.
fn measure(scheduler: &mut Scheduler, alive: &mut [u64], next: &mut u64, rounds: u32, random: &mut Random) -> Figures {
    let requests: Vec<Request> = (0..rounds).map(|_| request(random)).collect();
    let mut times = Vec::with_capacity(rounds as usize);
    let mut now = Duration::from_secs(1);
    let (begin, worked) = (Instant::now(), processor_time());
    for request in requests {
        now += Duration::from_millis(1);
        let which = below(random, u32::try_from(alive.len()).unwrap_or(u32::MAX)) as usize;
        let (ending, started) = (std::mem::replace(&mut alive[which], *next), Instant::now());
        scheduler.end(now, SessionId(ending));
        let _decided = std::hint::black_box(scheduler.ask(now, SessionId(*next), request));
        times.push(started.elapsed());
        scheduler.take_events();
        *next += 1;
    }
    let (took, worked) = (begin.elapsed(), processor_time() - worked);
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let per = |time: Duration| f64::from(rounds) / time.as_secs_f64();
    Figures { per_s: per(worked), per_wall_s: per(took), p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) }
}

/// How long this thread has worked.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn rss_mib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: decide NODES SESSIONS";
    let nodes: u32 = arguments.next().context(usage)?.parse().context(usage)?;
    let sessions: u64 = arguments.next().context(usage)?.parse().context(usage)?;
    let mut random = Random::new(1);
    let mut scheduler = fleet(nodes);
    let (mut alive, mut next) = (Vec::new(), 0);
    let begin = Instant::now();
    while next < sessions {
        let decision = scheduler.ask(Duration::ZERO, SessionId(next), request(&mut random));
        alive.push(next);
        next += 1;
        if matches!(decision, Decision::Waits { .. }) && scheduler.queued() > 1000 {
            break;
        }
    }
    let filling_per_s = next as f64 / begin.elapsed().as_secs_f64();
    let (running, queued) = (scheduler.running(), scheduler.queued());
    let rounds = 100_000;
    let figures = measure(&mut scheduler, &mut alive, &mut next, rounds, &mut random);
    println!(
        r#"{{"nodes": {nodes}, "sessions": {running}, "queued": {queued}, "filling_per_s": {filling_per_s:.0}, "decisions_per_s": {:.0}, "decisions_per_wall_s": {:.0}, "p50_us": {:.1}, "p99_us": {:.1}, "max_us": {:.0}, "rss_mib": {}}}"#,
        figures.per_s,
        figures.per_wall_s,
        figures.p50_us,
        figures.p99_us,
        figures.max_us,
        rss_mib()?
    );
    Ok(())
}
