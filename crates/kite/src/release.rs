//! Releases of an app on a server: list, promote, roll back, remove, place.

use std::process::ExitCode;

use api::content::{ChannelList, ReleaseList, Replica, ReplicaPolicy, ReplicaState, SetChannel, SetReplica};
use clap::ValueEnum;
use hyper::Method;

use crate::client::{Api, block_on};
use crate::say;
use crate::session::Server;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PolicyName {
    /// Fetched at once, never evicted.
    Pinned,
    /// Fetched at once, evicted when space is needed.
    Preferred,
    /// Fetched when a session needs it.
    Anywhere,
}

fn with_server(server: &Server, work: impl AsyncFnOnce(Api) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    block_on(async { work(server.open()?).await })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn list(server: &Server, app: &str) -> anyhow::Result<ExitCode> {
    with_server(server, async |api| {
        let list: ReleaseList = api.get(&format!("/v1/apps/{app}/releases")).await?;
        for release in list.releases {
            let (number, files, mb) = (release.number, release.files, release.bytes.div_ceil(1_000_000));
            say::out(&format!(
                "{number:>5}  {}  {files:>7} files {mb:>8} MB  {}",
                release.created_at,
                release.channels.join(" ")
            ));
        }
        Ok(())
    })
}

fn show(app: &str, list: &ChannelList) {
    for channel in &list.channels {
        say::out(&format!("{app}: {:12} release {} since {}", channel.name, channel.release, channel.changed_at));
    }
}

pub(crate) fn promote(server: &Server, app: &str, release: u32, channel: &str) -> anyhow::Result<ExitCode> {
    with_server(server, async |api| {
        let path = format!("/v1/apps/{app}/channels/{channel}");
        show(app, &api.json(Method::PUT, &path, Some(&SetChannel { release })).await?);
        Ok(())
    })
}

pub(crate) fn roll_back(server: &Server, app: &str, channel: &str) -> anyhow::Result<ExitCode> {
    with_server(server, async |api| {
        let path = format!("/v1/apps/{app}/channels/{channel}/rollback");
        show(app, &api.json(Method::POST, &path, None::<&()>).await?);
        Ok(())
    })
}

pub(crate) fn remove(server: &Server, app: &str, release: u32) -> anyhow::Result<ExitCode> {
    with_server(server, async |api| {
        api.send(Method::DELETE, &format!("/v1/apps/{app}/releases/{release}")).await?;
        say::out(&format!("{app}: release {release} is removed."));
        Ok(())
    })
}

pub(crate) fn place(server: &Server, app: &str, release: u32, policy: Option<PolicyName>) -> anyhow::Result<ExitCode> {
    with_server(server, async |api| {
        let path = format!("/v1/apps/{app}/releases/{release}/replicas/local");
        let replica: Replica = match policy {
            None => api.get(&path).await?,
            Some(name) => {
                let policy = match name {
                    PolicyName::Pinned => ReplicaPolicy::Pinned,
                    PolicyName::Preferred => ReplicaPolicy::Preferred,
                    PolicyName::Anywhere => ReplicaPolicy::Anywhere,
                };
                api.json(Method::POST, &path, Some(&SetReplica { policy })).await?
            }
        };
        say::out(&format!("{}: {:?}, {}", replica.site, replica.policy, sentence(&replica.state)));
        Ok(())
    })
}

fn sentence(state: &ReplicaState) -> String {
    let percent = |done: u64, total: u64| done.saturating_mul(100).checked_div(total).unwrap_or(0);
    match state {
        ReplicaState::Absent => "absent".to_owned(),
        ReplicaState::Replicating { bytes_done, bytes_total, bytes_fetched } => {
            format!("replicating, {} %, {bytes_fetched} bytes fetched", percent(*bytes_done, *bytes_total))
        }
        ReplicaState::Present { bytes } => format!("present, {bytes} bytes"),
        ReplicaState::Verifying { bytes_done, bytes_total } => {
            format!("verifying, {} %", percent(*bytes_done, *bytes_total))
        }
        ReplicaState::Corrupt { faults } => format!("corrupt: {faults} chunks or files, which are fetched anew"),
        ReplicaState::Failed { detail } => format!("failed: {detail}"),
        ReplicaState::Evicting => "evicting".to_owned(),
    }
}
