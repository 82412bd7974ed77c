//! `kite up`: control plane and node in one process, until a signal.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::host::{Signals, block_on, close_image, start_node, stop_signal, with_causes};
use crate::plan::{ControlArgs, NodeArgs, NodePlan, PlaceArgs};
use crate::telemetry::Telemetry;
use crate::{install, say};

/// Exit status after a second signal, as shells write "ended by SIGINT".
pub(crate) const FORCED: u8 = 130;

#[derive(Args, Debug, Default)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    control: ControlArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// Everything that the two halves are told.
#[derive(Debug)]
struct Plan {
    control: control::Settings,
    node: NodePlan,
    telemetry: Telemetry,
    /// Packages that are left out, and why.
    left_out: Vec<String>,
}

pub(crate) fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let config = args.place.read_config()?;
    let data_dir = args.place.data_dir(&config)?;
    let (mut control, left_out) = args.control.settings(&config, &data_dir)?;
    if let Some(class) = &config.hardware_class {
        control.embedded_class.clone_from(class);
    }
    let node = args.node.plan(&config, &data_dir, control.listen.ip())?;
    block_on(serve(Plan { control, node, telemetry: config.telemetry()?, left_out }))
}

async fn serve(plan: Plan) -> anyhow::Result<ExitCode> {
    let Plan { mut control, mut node, telemetry, left_out } = plan;
    let mut telemetry = telemetry.begin("kite").await?;
    (control.spans, node.settings.spans) = (telemetry.spans(), telemetry.spans());
    let id = install::node_id(&control.data_dir);
    node.settings.node = id.with_context(|| format!("{} cannot be used", control.data_dir.display()))?;
    control.embedded = Some(node.settings.node);
    // From the first moment: a signal during the start stops as well.
    let mut signals = Signals::new()?;
    let places = node.settings.capacity.sessions;
    let for_sweep = node.settings.clone();
    let (link, node_end) = api::node::in_process();
    let (stop, shutdown) = stop_signal();
    let packages = control.games.len();
    let (data_dir, web) = (control.data_dir.clone(), control.web_dir.clone());
    // The data directory is made and locked by the control plane first.
    let mut running = control::serve(control, Some(link), shutdown).await.map_err(with_causes)?;
    let (image, agent) = match start_node(node, node_end).await {
        Ok(started) => started,
        Err(error) => {
            stop.send_replace(true);
            if let Err(other) = running.stopped().await {
                tracing::warn!(error = &other as &dyn std::error::Error, "the control plane ended badly");
            }
            return Err(error);
        }
    };
    telemetry.serve(vec![running.metrics(), agent.metrics()]);
    announce(&Ready {
        address: running.address(),
        nodes: running.node_address(),
        places: Some(places),
        packages,
        left_out: &left_out,
        data_dir: &data_dir,
        web: web.as_deref(),
    });

    let by_itself = tokio::select! {
        () = signals.next() => None,
        ended = running.stopped() => Some(ended),
    };
    say::out("Stopping: running games are ended. A second signal does it by force.");
    stop.send_replace(true);
    let graceful = async {
        let ended = match by_itself {
            Some(ended) => ended,
            None => running.stopped().await,
        };
        agent.stop().await;
        telemetry.end().await;
        close_image(image);
        ended.map_err(with_causes)
    };
    tokio::select! {
        ended = graceful => ended.map(|()| ExitCode::SUCCESS),
        () = signals.next() => {
            // Sandboxes end with this process; streamers would wait for their players to leave.
            let swept = tokio::task::spawn_blocking(move || node::sweep(&for_sweep)).await;
            tracing::warn!(?swept, "stopped by force");
            Ok(ExitCode::from(FORCED))
        }
    }
}

/// What is told of a control plane when it is ready.
pub(crate) struct Ready<'a> {
    pub(crate) address: SocketAddr,
    /// Where nodes connect.
    pub(crate) nodes: Option<SocketAddr>,
    /// Of the node in the same process.
    pub(crate) places: Option<u32>,
    pub(crate) packages: usize,
    pub(crate) left_out: &'a [String],
    pub(crate) data_dir: &'a Path,
    pub(crate) web: Option<&'a Path>,
}

pub(crate) fn announce(ready: &Ready<'_>) {
    let Ready { address, nodes, places, packages, left_out, data_dir, web } = *ready;
    let host = match address.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    };
    let mut lines = vec![
        String::new(),
        format!("  Kite is ready: http://{host}:{}", address.port()),
        String::new(),
        format!("    games   {packages}"),
    ];
    lines.extend(places.map(|places| format!("    places  {places}")));
    lines.extend(nodes.map(|nodes| format!("    nodes   {nodes}: `kite fleet token` lets a machine join")));
    lines.push(format!("    data    {}", data_dir.display()));
    if web.is_none() {
        lines.push("    pages   none: the web pages are not built; the API works".to_owned());
    }
    lines.extend(left_out.iter().map(|reason| format!("    left out  {reason}")));
    if !address.ip().is_loopback() {
        lines.push(
            "    note    others reach this address without TLS: put a TLS proxy in front, or browsers".to_owned(),
        );
        lines.push("            will neither lock the pointer nor read gamepads".to_owned());
    }
    lines.push("    stop    Ctrl-C".to_owned());
    lines.push(String::new());
    say::out(&lines.join("\n"));
}
