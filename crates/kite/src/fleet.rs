//! `kite fleet`: the machines of an installation, and what tenants may use of them.

use std::process::ExitCode;

use anyhow::Context;
use api::fleet::{
    Amounts, AppDemand, CreateJoinToken, CreatedJoinToken, DemandList, Duty, ForgottenDemands, Node, NodeList, SetDuty,
};
use api::id::NodeId;
use api::manifest::AppName;
use clap::Subcommand;
use hyper::Method;

use crate::client::block_on;
use crate::say;
use crate::session::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// List nodes: where they are, whether they are well, what they hold.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show a node: what it has, and what its sessions take of it.
    Show {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        node: NodeId,
    },
    /// List what sessions of apps take, as far as it was measured.
    Demands {
        #[command(flatten)]
        server: Server,
    },
    /// Forget what was measured of an app's sessions, so that it is measured anew: when something was wrong with it.
    Forget {
        #[command(flatten)]
        server: Server,
        /// The app's name.
        app: AppName,
    },
    /// Print a token by which one machine may join, within an hour.
    Token {
        #[command(flatten)]
        server: Server,
        /// The site that it joins; a new name makes a new site.
        #[arg(long)]
        site: String,
        /// Its hardware class [default: standard].
        #[arg(long)]
        class: Option<String>,
    },
    /// Let nothing new go to a node; what runs goes on.
    Cordon {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        node: NodeId,
    },
    /// Let nothing new go to a node, and move what runs: it is saved, stopped, and started on another one.
    Drain {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        node: NodeId,
    },
    /// Let sessions go to a node again.
    Activate {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        node: NodeId,
    },
    /// Send a node away for good. What it still has is started elsewhere from its last save: drain it first.
    Retire {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        node: NodeId,
    },
}

pub(crate) fn run(command: FleetCommand) -> anyhow::Result<ExitCode> {
    block_on(answer(command))?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(command: FleetCommand) -> anyhow::Result<()> {
    match command {
        FleetCommand::List { server } => {
            let list: NodeList = server.open()?.get("/v1/nodes").await?;
            for node in &list.nodes {
                say::out(&line(node));
            }
            Ok(())
        }
        FleetCommand::Show { server, node } => {
            let list: NodeList = server.open()?.get("/v1/nodes").await?;
            let node = list.nodes.iter().find(|one| one.id == node).context("no node has this id")?;
            say::out(&line(node));
            for amount in amounts(node) {
                say::out(&amount);
            }
            Ok(())
        }
        FleetCommand::Demands { server } => {
            let list: DemandList = server.open()?.get("/v1/demands").await?;
            for demand in &list.demands {
                say::out(&demand_line(demand));
            }
            Ok(())
        }
        FleetCommand::Forget { server, app } => {
            let path = format!("/v1/demands/{app}");
            let done: ForgottenDemands = server.open()?.json(Method::DELETE, &path, None::<&()>).await?;
            say::out(&format!("{app}: forgotten of {} releases and specs", done.forgotten));
            Ok(())
        }
        FleetCommand::Token { server, site, class } => {
            let created: CreatedJoinToken =
                server.open()?.json(Method::POST, "/v1/nodes/tokens", Some(&CreateJoinToken { site, class })).await?;
            say::out(&created.token);
            Ok(())
        }
        FleetCommand::Cordon { server, node } => set(&server, node, Duty::Cordoned).await,
        FleetCommand::Drain { server, node } => set(&server, node, Duty::Draining).await,
        FleetCommand::Activate { server, node } => set(&server, node, Duty::Active).await,
        FleetCommand::Retire { server, node } => set(&server, node, Duty::Retired).await,
    }
}

async fn set(server: &Server, node: NodeId, duty: Duty) -> anyhow::Result<()> {
    let node: Node =
        server.open()?.json(Method::PUT, &format!("/v1/nodes/{node}/duty"), Some(&SetDuty { duty })).await?;
    say::out(&line(&node));
    Ok(())
}

fn line(node: &Node) -> String {
    let health = serde_json::to_value(node.health).ok().and_then(|word| word.as_str().map(str::to_owned));
    format!(
        "{}  {:16} {:12} {:10} {:9} {:8} {:3} of {:3}  {}{}",
        node.id,
        node.name,
        node.site,
        node.class,
        node.duty.word(),
        health.unwrap_or_default(),
        node.sessions,
        node.places,
        short(node),
        node.refuses.as_deref().unwrap_or(""),
    )
}

/// Processors and memory, where the node limits them.
fn short(node: &Node) -> String {
    let (has, used) = (node.capacity, node.used);
    let processors = has.cpu_milli.map(|milli| {
        format!("{:.1} of {:.1} processors  ", thousandth(used.cpu_milli.unwrap_or(0)), thousandth(milli))
    });
    let memory = has.memory_mib.map(|mib| format!("{} of {mib} MiB  ", used.memory_mib.unwrap_or(0)));
    processors.into_iter().chain(memory).collect()
}

/// Everything that is limited, or taken, a line each.
fn amounts(node: &Node) -> Vec<String> {
    type Read = fn(&Amounts) -> Option<u32>;
    let all: [(&str, Read); 4] = [
        ("processor, thousandths", |amounts| amounts.cpu_milli),
        ("memory, MiB", |amounts| amounts.memory_mib),
        ("encoder, thousands of pixels a second", |amounts| amounts.encoder_kpixels),
        ("network, kbit/s", |amounts| amounts.egress_kbps),
    ];
    let line = |(name, read): (&str, Read)| {
        let has = read(&node.capacity).map_or_else(|| "no limit".to_owned(), |amount| amount.to_string());
        format!("  {name:40} {:>10} of {has}", read(&node.used).unwrap_or(0))
    };
    all.into_iter().map(line).collect()
}

fn demand_line(demand: &AppDemand) -> String {
    let AppDemand { app, release, spec, takes, is_settled, sessions, measured_at: _ } = demand;
    let app = release.map_or_else(|| app.to_string(), |release| format!("{app} {release}"));
    format!(
        "{app:24} {:>4}x{:<4} {:>3} a second  {:5.2} processors  {:6} MiB  {:6} kbit/s  {sessions} sessions{}",
        spec.width,
        spec.height,
        spec.frames_per_second,
        thousandth(takes.cpu_milli.unwrap_or(0)),
        takes.memory_mib.unwrap_or(0),
        takes.egress_kbps.unwrap_or(0),
        if *is_settled { "" } else { ", not settled yet" },
    )
}

fn thousandth(milli: u32) -> f32 {
    milli as f32 / 1000.0
}
