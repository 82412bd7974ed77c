//! `kite usage`: what was played and for how long.

use std::process::ExitCode;

use api::id::SessionId;
use api::usage::{SessionUsage, UsageEnding, UsageInterval, UsageList};

use crate::client::block_on;
use crate::say;
use crate::session::Server;

#[derive(Debug, clap::Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    server: Server,
    /// Of this tenant alone.
    #[arg(long)]
    tenant: Option<String>,
    /// Of this session alone.
    #[arg(long)]
    session: Option<SessionId>,
    /// At most so many sessions.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// As JSON, one session a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: UsageArgs) -> anyhow::Result<ExitCode> {
    block_on(show(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(args: UsageArgs) -> anyhow::Result<()> {
    let tenant = args.tenant.map_or_else(String::new, |tenant| format!("&tenant={tenant}"));
    let session = args.session.map_or_else(String::new, |session| format!("&session={session}"));
    let path = format!("/v1/usage?limit={}{tenant}{session}", args.limit);
    let list: UsageList = args.server.open()?.get(&path).await?;
    for session in &list.sessions {
        if args.json {
            say::out(&serde_json::to_string(session)?);
        } else {
            say::out(&line(session));
            session.intervals.iter().for_each(|interval| say::out(&interval_line(interval)));
        }
    }
    Ok(())
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

fn line(session: &SessionUsage) -> String {
    let fault =
        if session.fault_ms > 0 { format!(", {} not billed", seconds(session.fault_ms)) } else { String::new() };
    let (id, tenant, app) = (session.session, &session.tenant, &session.app);
    format!("{id}  {tenant}  {app}  {}{fault}", seconds(session.billed_ms))
}

fn interval_line(interval: &UsageInterval) -> String {
    let ending = match &interval.ending {
        UsageEnding::Open => "goes on".to_owned(),
        UsageEnding::Closed { because } => because.clone(),
        UsageEnding::LastProven => "last seen".to_owned(),
    };
    let cost = if interval.is_fault { ", costs nothing" } else { "" };
    format!("  {}  {}  {}  {ending}{cost}", interval.from, interval.to, seconds(interval.ms))
}
