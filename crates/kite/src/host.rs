//! What every program that stays needs of its host.

use anyhow::Context;
use api::node::NodeEnd;
use node::{Agent, Image};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::plan::NodePlan;

/// Every session costs the agent some descriptors; the usual limit of 1024 is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// SIGINT, SIGTERM, SIGHUP.
pub(crate) struct Signals {
    all: [Signal; 3],
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [int, term, hup] = kinds.map(signal);
        let all = (|| Ok::<_, std::io::Error>([int?, term?, hup?]))().context("cannot wait for signals")?;
        Ok(Self { all })
    }

    pub(crate) async fn next(&mut self) {
        let [int, term, hup] = &mut self.all;
        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {} }
    }
}

/// Mounts what the node works in, and starts it.
pub(crate) async fn start_node(plan: NodePlan, end: NodeEnd) -> anyhow::Result<(Option<Image>, Agent)> {
    let NodePlan { settings: node, image_bytes } = plan;
    let image = match image_bytes {
        None => None,
        Some(bytes) => {
            let (file, at) = (node.data_dir.join("site.xfs"), node.work_dir.clone());
            Some(tokio::task::spawn_blocking(move || Image::open(&file, &at, bytes)).await??)
        }
    };
    Ok((image, Agent::start(node, end).await.map_err(with_causes)?))
}

pub(crate) fn with_causes(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    anyhow::Error::new(error)
}

/// Unmounts what a node worked in.
pub(crate) fn close_image(image: Option<Image>) {
    if let Some(Err(error)) = image.map(Image::close) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the image stays mounted; the next start finds it");
    }
}

/// Runs it to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // Blocking tasks that hang are not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

/// Something to send `true` to, and what is ready then.
pub(crate) fn stop_signal() -> (watch::Sender<bool>, impl Future<Output = ()> + Send + 'static) {
    let (stop, mut stopped) = watch::channel(false);
    let shutdown = async move {
        // An error means that `stop` is gone, which is a stop as well.
        let _gone = stopped.wait_for(|stop| *stop).await;
    };
    (stop, shutdown)
}
