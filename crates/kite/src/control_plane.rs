//! `kite control`: the control plane of a fleet. Its end ends no game: nodes go on, and come back to it.

use std::path::PathBuf;
use std::process::ExitCode;

use api::node::InProcessLink;
use clap::{Args, Subcommand};
use control::DatabaseSettings;

use crate::host::{Signals, block_on, stop_signal, with_causes};
use crate::plan::{ControlArgs, PlaceArgs};
use crate::say;
use crate::telemetry::Telemetry;
use crate::up::{FORCED, Ready, announce};

#[derive(Args, Debug, Default)]
pub(crate) struct ControlPlaneArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    control: ControlArgs,
    /// Makes this process one of several on one PostgreSQL database: where the others reach its HTTP server, as HOST:PORT. One leads, the others
    /// pass on to it and take its place.
    #[arg(long, value_name = "HOST:PORT")]
    replica: Option<String>,
    /// Directory of the operator's token, the saves' key and the nodes' authority: the same for all replicas [default: the data directory].
    #[arg(long)]
    secrets: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum Action {
    /// Brings the database up to date and ends. Every start does so by itself; this is for updates in which the schema comes first.
    Migrate,
}

pub(crate) fn run(args: ControlPlaneArgs) -> anyhow::Result<ExitCode> {
    let config = args.place.read_config()?;
    let data_dir = args.place.data_dir(&config)?;
    let (mut settings, left_out) = args.control.settings(&config, &data_dir)?;
    settings.replica = args.replica.or_else(|| config.fleet.replica.clone());
    settings.secrets_dir = args.secrets.or_else(|| config.fleet.secrets.clone());
    if settings.replica.is_some() {
        check_replica(&settings)?;
    }
    if let Some(Action::Migrate) = args.action {
        return block_on(async move {
            control::migrate(&settings).await.map_err(with_causes)?;
            say::out("The database is up to date.");
            Ok(ExitCode::SUCCESS)
        });
    }
    if settings.nodes.is_none() {
        anyhow::bail!(
            "without nodes nothing can be played: name the address of the node link, for example --nodes 0.0.0.0:7443"
        );
    }
    block_on(serve(settings, config.telemetry()?, left_out))
}

/// What replicas have to have in common.
fn check_replica(settings: &control::Settings) -> anyhow::Result<()> {
    if settings.database == DatabaseSettings::Embedded {
        anyhow::bail!(
            "replicas share a PostgreSQL database: name it with `url` under [database], or in KITE_DATABASE_URL"
        );
    }
    if settings.secrets_dir.is_none() {
        anyhow::bail!("replicas have the same secrets: name their directory with --secrets");
    }
    Ok(())
}

async fn serve(
    mut settings: control::Settings,
    telemetry: Telemetry,
    left_out: Vec<String>,
) -> anyhow::Result<ExitCode> {
    let mut telemetry = telemetry.begin("kite-control").await?;
    settings.spans = telemetry.spans();
    let mut signals = Signals::new()?;
    let (stop, shutdown) = stop_signal();
    let (packages, data_dir, web) = (settings.games.len(), settings.data_dir.clone(), settings.web_dir.clone());
    let mut running = control::serve(settings, None::<InProcessLink>, shutdown).await.map_err(with_causes)?;
    telemetry.serve(vec![running.metrics()]);
    announce(&Ready {
        address: running.address(),
        nodes: running.node_address(),
        places: None,
        packages,
        left_out: &left_out,
        data_dir: &data_dir,
        web: web.as_deref(),
    });
    let by_itself = tokio::select! {
        () = signals.next() => None,
        ended = running.stopped() => Some(ended),
    };
    let graceful = async {
        let ended = match by_itself {
            Some(ended) => ended,
            None => {
                say::out("Stopping: games go on.");
                stop.send_replace(true);
                running.stopped().await
            }
        };
        telemetry.end().await;
        ended.map_err(with_causes)
    };
    tokio::select! {
        ended = graceful => ended.map(|()| ExitCode::SUCCESS),
        () = signals.next() => Ok(ExitCode::from(FORCED)),
    }
}
