//! `swarm`: thousands of simulated nodes and players against a real control plane, over real sockets. It is never shipped.
//!
//! Nodes join with tokens and speak the node link with mutual TLS, as `kite node` does; what they start runs in a map. Players are guests who
//! create a session, open its link, send an offer, and leave. The ledger sees what no node or player alone can: an instance on two
//! machines, a node with more than it has places. Commands come as lines on standard input; each is answered with one line of JSON.
//!
//! Deliberately absent: games, media, anything of the control plane.

mod http;
mod ledger;
mod node;
mod player;
mod report;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use futures_util::StreamExt;
use futures_util::stream::iter;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::http::Http;
use self::ledger::Ledger;
use self::player::Play;
use self::report::Report;

/// Joins that are under way at once.
const JOINS_AT_ONCE: usize = 16;

/// Simulated nodes and players for one control plane.
#[derive(Parser, Debug)]
struct Args {
    /// Addresses of the control plane's API, of all its replicas.
    #[arg(long, required = true)]
    url: Vec<String>,
    /// Addresses of its node link, of all its replicas.
    #[arg(long, required = true)]
    link: Vec<String>,
    /// The operator's token.
    #[arg(long, env = "KITE_TOKEN", hide_env_values = true)]
    token: String,
    /// How many nodes.
    #[arg(long, default_value_t = 100)]
    nodes: u32,
    /// Places of each.
    #[arg(long, default_value_t = 8)]
    places: u32,
    /// Sites that they are spread over.
    #[arg(long, default_value_t = 4)]
    sites: u32,
    /// What is played.
    #[arg(long)]
    app: String,
    /// How long an instance takes to start, in milliseconds.
    #[arg(long, default_value_t = 500)]
    start_ms: u64,
}

/// What everybody needs.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) http: Http,
    pub(crate) app: String,
    pub(crate) places: u32,
    pub(crate) start: Duration,
    pub(crate) ledger: Ledger,
    pub(crate) report: Report,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(Args::parse()))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let swarm = Arc::new(Swarm {
        http: Http::new(&args.url, args.token.clone())?,
        app: args.app.clone(),
        places: args.places,
        start: Duration::from_millis(args.start_ms),
        ledger: Ledger::default(),
        report: Report::default(),
    });
    let home = tempfile::tempdir().context("no directory for identities")?;
    join_all(&args, &swarm, home.path().to_owned()).await?;
    answer("joined", &swarm);
    let mut plays = VecDeque::new();
    let mut lines = commands()?;
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["fill", count, rate] => fill(&swarm, &mut plays, count.parse()?, rate.parse()?).await,
            ["churn", seconds, rate] => churn(&swarm, &mut plays, seconds.parse()?, rate.parse()?).await,
            ["run", count, rate, life_ms] => run_plays(&swarm, count.parse()?, rate.parse()?, life_ms.parse()?).await,
            ["drain", rate] => drain(&mut plays, rate.parse()?).await,
            ["report"] => {}
            ["quit"] => return Ok(()),
            _ => bail!("not understood: {line}"),
        }
        answer(words.first().copied().unwrap_or_default(), &swarm);
    }
    Ok(())
}

/// Lines of standard input.
fn commands() -> anyhow::Result<mpsc::Receiver<String>> {
    let (lines, read) = mpsc::channel(16);
    std::thread::Builder::new().name("commands".to_owned()).spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(read)
}

#[expect(clippy::print_stdout, reason = "standard output is this program's answer")]
fn answer(what: &str, swarm: &Swarm) {
    println!("{}", swarm.report.take(what, &swarm.ledger));
}

async fn join_all(args: &Args, swarm: &Arc<Swarm>, home: PathBuf) -> anyhow::Result<()> {
    let joins = (0..args.nodes).map(|number| {
        let (swarm, dir) = (Arc::clone(swarm), home.join(number.to_string()));
        let (links, site) = (args.link.clone(), format!("site-{}", number % args.sites.max(1)));
        async move { node::join(swarm, links, site, number, dir).await }
    });
    let mut joined = iter(joins).buffer_unordered(JOINS_AT_ONCE);
    while let Some(done) = joined.next().await {
        done?;
    }
    Ok(())
}

/// A beat for each start.
fn beat(rate: f64) -> tokio::time::Interval {
    let mut beat = interval(Duration::from_secs_f64(1.0 / rate.max(0.1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    beat
}

/// Starts plays until there are so many.
async fn fill(swarm: &Arc<Swarm>, plays: &mut VecDeque<Play>, count: usize, rate: f64) {
    let mut beat = beat(rate);
    while plays.len() < count {
        beat.tick().await;
        plays.push_back(Play::start(swarm));
    }
    // The last ones have to arrive.
    let since = Instant::now();
    while swarm.report.connected() < count && since.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(20)).await;
    }
}

/// So long, one leaves for each that comes: the oldest.
async fn churn(swarm: &Arc<Swarm>, plays: &mut VecDeque<Play>, seconds: u64, rate: f64) {
    let (mut beat, until) = (beat(rate), Instant::now() + Duration::from_secs(seconds));
    while Instant::now() < until {
        beat.tick().await;
        if let Some(oldest) = plays.pop_front() {
            oldest.leave();
        }
        plays.push_back(Play::start(swarm));
    }
}

/// So many plays from their beginning to their end, each about as long as this.
async fn run_plays(swarm: &Arc<Swarm>, count: usize, rate: f64, life_ms: u64) {
    let mut beat = beat(rate);
    let mut playing = Vec::new();
    for number in 0..count {
        beat.tick().await;
        let (swarm, number) = (Arc::clone(swarm), u64::try_from(number).unwrap_or(0));
        playing.push(tokio::spawn(async move {
            let play = Play::start(&swarm);
            // Between a half and one and a half of it.
            sleep(Duration::from_millis(life_ms / 2 + number * 7919 % life_ms.max(1))).await;
            play.leave().over().await;
        }));
    }
    for play in playing {
        if play.await.is_err() {
            swarm.ledger.violation("a simulated player broke".to_owned());
        }
    }
}

/// All leave, so many each second.
async fn drain(plays: &mut VecDeque<Play>, rate: f64) {
    let mut beat = beat(rate);
    let mut leaving = Vec::new();
    for play in plays.drain(..) {
        beat.tick().await;
        leaving.push(play.leave());
    }
    for play in leaving {
        play.over().await;
    }
}
