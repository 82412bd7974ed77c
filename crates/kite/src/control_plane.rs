//! `kite control`: the control plane of a fleet. Its end ends no game: nodes go on, and come back to it.

use std::process::ExitCode;

use api::node::InProcessLink;
use clap::Args;

use crate::host::{Signals, block_on, stop_signal, with_causes};
use crate::plan::{ControlArgs, PlaceArgs};
use crate::say;
use crate::up::{FORCED, Ready, announce};

#[derive(Args, Debug, Default)]
pub(crate) struct ControlPlaneArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    control: ControlArgs,
}

pub(crate) fn run(args: ControlPlaneArgs) -> anyhow::Result<ExitCode> {
    let config = args.place.read_config()?;
    let data_dir = args.place.data_dir(&config)?;
    let (settings, left_out) = args.control.settings(&config, &data_dir)?;
    if settings.nodes.is_none() {
        anyhow::bail!(
            "without nodes nothing can be played: name the address of the node link, for example --nodes 0.0.0.0:7443"
        );
    }
    block_on(serve(settings, left_out))
}

async fn serve(settings: control::Settings, left_out: Vec<String>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let (stop, shutdown) = stop_signal();
    let (packages, data_dir, web) = (settings.games.len(), settings.data_dir.clone(), settings.web_dir.clone());
    let running = control::serve(settings, None::<InProcessLink>, shutdown).await.map_err(with_causes)?;
    announce(&Ready {
        address: running.address(),
        nodes: running.node_address(),
        places: None,
        packages,
        left_out: &left_out,
        data_dir: &data_dir,
        web: web.as_deref(),
    });
    signals.next().await;
    say::out("Stopping: games go on.");
    stop.send_replace(true);
    tokio::select! {
        () = running.stopped() => Ok(ExitCode::SUCCESS),
        () = signals.next() => Ok(ExitCode::from(FORCED)),
    }
}
