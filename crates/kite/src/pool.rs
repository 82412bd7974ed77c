//! `kite pool`: instances that are kept ready at a site before anybody asks for them.

use std::process::ExitCode;

use api::id::PoolId;
use api::manifest::AppName;
use api::node::Warmth;
use api::pool::{CreatePool, DEFAULT_LIFETIME_S, Pool, PoolList, ResizePool};
use api::spec::StreamSpec;
use clap::Subcommand;
use hyper::Method;

use crate::client::block_on;
use crate::say;
use crate::session::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// List pools: what they keep, how many of it are ready, and why not all.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Keep instances of an app ready at a site.
    Add {
        #[command(flatten)]
        server: Server,
        /// The app's name.
        app: AppName,
        /// The site, as `kite fleet list` shows it; `local` with `kite up`.
        #[arg(long)]
        site: String,
        /// How many.
        #[arg(long)]
        size: u32,
        /// The channel whose release is started [default: stable].
        #[arg(long)]
        channel: Option<String>,
        /// The picture, as WIDTHxHEIGHT@FRAMES [default: the app's].
        #[arg(long, value_parser = spec)]
        spec: Option<StreamSpec>,
        /// How long one is kept before it is started anew, in seconds.
        #[arg(long, default_value_t = DEFAULT_LIFETIME_S)]
        lifetime: u32,
    },
    /// Change how many instances a pool keeps ready.
    Resize {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        pool: PoolId,
        /// How many.
        #[arg(long)]
        size: u32,
    },
    /// Remove a pool. Its instances end, but for those that somebody plays.
    Remove {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        pool: PoolId,
    },
}

pub(crate) fn run(command: PoolCommand) -> anyhow::Result<ExitCode> {
    block_on(answer(command))?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(command: PoolCommand) -> anyhow::Result<()> {
    match command {
        PoolCommand::List { server } => {
            let list: PoolList = server.open()?.get("/v1/pools").await?;
            for pool in &list.pools {
                say::out(&line(pool));
            }
            Ok(())
        }
        PoolCommand::Add { server, app, site, size, channel, spec, lifetime } => {
            let request = CreatePool { app, channel, site, spec, size, lifetime_s: lifetime };
            let pool: Pool = server.open()?.json(Method::POST, "/v1/pools", Some(&request)).await?;
            say::out(&line(&pool));
            Ok(())
        }
        PoolCommand::Resize { server, pool, size } => {
            let path = format!("/v1/pools/{pool}");
            let pool: Pool = server.open()?.json(Method::PATCH, &path, Some(&ResizePool { size })).await?;
            say::out(&line(&pool));
            Ok(())
        }
        PoolCommand::Remove { server, pool } => {
            server.open()?.send(Method::DELETE, &format!("/v1/pools/{pool}")).await?;
            Ok(())
        }
    }
}

fn line(pool: &Pool) -> String {
    let StreamSpec { width, height, frames_per_second } = pool.spec;
    let warmth = match pool.warmth {
        Warmth::Prepared => "prepared",
        Warmth::Running => "running",
    };
    format!(
        "{}  {:16} {:8} {:12} {:13} {:8} {:3} of {:3} ready, {} starting  {}",
        pool.id,
        pool.app.as_str(),
        pool.channel,
        pool.site,
        format!("{width}x{height}@{frames_per_second}"),
        warmth,
        pool.ready,
        pool.size,
        pool.starting,
        pool.hindered.as_deref().unwrap_or(""),
    )
}

/// `1280x720@60`.
fn spec(text: &str) -> Result<StreamSpec, String> {
    let read = || {
        let (size, frames) = text.split_once('@')?;
        let (width, height) = size.split_once('x')?;
        Some(StreamSpec {
            width: width.parse().ok()?,
            height: height.parse().ok()?,
            frames_per_second: frames.parse().ok()?,
        })
    };
    read().ok_or_else(|| "expected WIDTHxHEIGHT@FRAMES, as in 1280x720@60".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read_as_it_is_written() {
        assert_eq!(spec("1280x720@60"), Ok(StreamSpec { width: 1280, height: 720, frames_per_second: 60 }));
        for wrong in ["", "1280x720", "1280@60", "x@", "-1x5@60", "1280x720@60fps"] {
            assert!(spec(wrong).is_err(), "{wrong}");
        }
    }
}
