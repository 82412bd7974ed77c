//! `kite node`: the agent of one machine of a fleet, until a signal.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use link::witness::Witness;
use link::{Identity, JoinToken, Refusal};

use crate::config::Config;
use crate::host::{Signals, block_on, close_image, start_node, with_causes};
use crate::plan::{NodeArgs, NodePlan, PlaceArgs};
use crate::say;
use crate::telemetry::{Telemetry, watch_link};
use crate::up::FORCED;

/// Directory of the node's certificate and key in the data directory.
const IDENTITY_DIR: &str = "identity";

/// How long the last report of a node that stops may take to the control plane.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Args, Debug, Default)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Host and port of a control plane's node link; may be given again.
    #[arg(long, env = "KITE_CONTROL")]
    control: Vec<String>,
    /// A token that `kite fleet token` printed, or `-` to read it from standard input. Needed once: the machine keeps what it got by it.
    #[arg(long, env = "KITE_JOIN", hide_env_values = true)]
    join: Option<String>,
    /// What people call this machine [default: its host name].
    #[arg(long)]
    name: Option<String>,
    /// Address and port at which others can see that this agent lives [default: the first advertised address, any port].
    #[arg(long)]
    witness: Option<SocketAddr>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let config = args.place.read_config()?;
    let data_dir = args.place.data_dir(&config)?;
    let AgentArgs { control, join, name, witness, node, .. } = args;
    let control = if control.is_empty() { config.fleet.control.clone() } else { control };
    if control.is_empty() {
        bail!("name the control plane's node link, for example --control play.example.org:7443");
    }
    let start = Start { control, join, name, witness, dir: data_dir.join(IDENTITY_DIR) };
    let plan = node.plan(&config, &data_dir, unspecified(&config))?;
    block_on(serve(start, plan, config.telemetry()?))
}

/// A node of a fleet is reached from elsewhere: its own addresses are told, unless others are named.
fn unspecified(config: &Config) -> IpAddr {
    config.network.bind.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

/// How the machine comes to the fleet.
struct Start {
    control: Vec<String>,
    join: Option<String>,
    name: Option<String>,
    witness: Option<SocketAddr>,
    dir: PathBuf,
}

async fn serve(start: Start, mut plan: NodePlan, telemetry: Telemetry) -> anyhow::Result<ExitCode> {
    let mut telemetry = telemetry.begin("kite-node").await?;
    plan.settings.spans = telemetry.spans();
    let mut signals = Signals::new()?;
    let identity = identity(&start).await?;
    let (id, places) = (identity.node(), plan.settings.capacity.sessions);
    let advertised = plan.settings.network.advertise.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into());
    let witness = Witness::bind(start.witness.unwrap_or(SocketAddr::new(advertised, 0))).await?;
    plan.settings.node = id;
    plan.settings.witness = Some(witness.address());
    let for_sweep = plan.settings.clone();
    tokio::fs::create_dir_all(&plan.settings.data_dir).await.context("the data directory cannot be made")?;
    let (end, mut connection) = link::connect(start.control.clone(), identity, start.dir);
    let (image, agent) = start_node(plan, end).await?;
    telemetry.serve(vec![agent.metrics(), watch_link(connection.state())]);
    say::out(&format!("Node {id} is ready: {places} places, control plane {}.", start.control.join(", ")));

    let refusal = tokio::select! {
        () = signals.next() => None,
        refusal = connection.ended() => refusal,
    };
    if refusal.is_none() {
        say::out("Stopping: running games are ended. A second signal does it by force.");
    }
    let graceful = async {
        agent.stop().await;
        connection.close(LAST_WORDS).await;
        telemetry.end().await;
        close_image(image);
    };
    tokio::select! {
        () = graceful => finish(refusal),
        () = signals.next() => {
            let swept = tokio::task::spawn_blocking(move || node::sweep(&for_sweep)).await;
            tracing::warn!(?swept, "stopped by force");
            Ok(ExitCode::from(FORCED))
        }
    }
}

fn finish(refusal: Option<Refusal>) -> anyhow::Result<ExitCode> {
    match refusal {
        None => Ok(ExitCode::SUCCESS),
        Some(refusal) => Err(with_causes(refusal)),
    }
}

/// Who this machine is; it joins when it is nobody yet.
async fn identity(start: &Start) -> anyhow::Result<Identity> {
    if let Some(identity) = Identity::load(&start.dir).map_err(with_causes)? {
        return Ok(identity);
    }
    let Some(token) = &start.join else {
        bail!("this machine is no node yet: make a token with `kite fleet token --site NAME` and give it with --join");
    };
    let token =
        if token == "-" { std::io::read_to_string(std::io::stdin()).context("no token came")? } else { token.clone() };
    let token: JoinToken = token.trim().parse().map_err(with_causes)?;
    let name = start.name.clone().unwrap_or_else(host_name);
    let mut last = None;
    for address in &start.control {
        match link::join(address, &token, &name, &start.dir).await {
            Ok(identity) => return Ok(identity),
            Err(error) => last = Some(with_causes(error)),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no control plane is named")))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
