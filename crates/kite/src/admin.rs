//! `kite admin`: what an operator looks up when something is to be cleared up.

use std::process::ExitCode;

use api::access::{AuditEntry, AuditList};
use clap::Subcommand;
use serde_json::Value;

use crate::client::block_on;
use crate::say;
use crate::session::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Say who changed what, the newest first. With a tenant's key: of that tenant.
    Audit {
        #[command(flatten)]
        server: Server,
        /// Of this tenant alone.
        #[arg(long)]
        tenant: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// As JSON, one change a line, with all that was before and after.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(command: AdminCommand) -> anyhow::Result<ExitCode> {
    block_on(ask(command))?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(command: AdminCommand) -> anyhow::Result<()> {
    let AdminCommand::Audit { server, tenant, limit, json } = command;
    let of = tenant.map_or_else(String::new, |tenant| format!("&tenant={tenant}"));
    let list: AuditList = server.open()?.get(&format!("/v1/audit?limit={limit}{of}")).await?;
    for entry in &list.entries {
        say::out(&if json { serde_json::to_string(entry)? } else { line(entry) });
    }
    Ok(())
}

fn line(entry: &AuditEntry) -> String {
    let actor = entry.actor.name.as_ref().or(entry.actor.id.as_ref());
    let who = actor.map_or_else(|| entry.actor.kind.word().to_owned(), |name| format!("{} {name}", entry.actor.kind));
    let of = entry.tenant.as_ref().map_or_else(String::new, |tenant| format!(" of {tenant}"));
    let mut line = format!("{}  {who}{of}  {}  {}", entry.at, entry.action, entry.target);
    for change in differences("", entry.before.as_ref(), entry.after.as_ref()) {
        line.push_str("\n    ");
        line.push_str(&change);
    }
    line
}

/// What is not as it was, a field a line.
fn differences(path: &str, before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    if before == after {
        return Vec::new();
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (before, after) {
        let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let deeper = |name: &&String| {
            let path = if path.is_empty() { (*name).clone() } else { format!("{path}.{name}") };
            differences(&path, old.get(*name), new.get(*name))
        };
        return names.iter().flat_map(deeper).collect();
    }
    let shown = |value: Option<&Value>| value.map_or_else(|| "-".to_owned(), Value::to_string);
    let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
    vec![format!("{path}{} -> {}", shown(before), shown(after))]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_shown() {
        let (before, after) =
            (json!({"a": 1, "b": {"c": "x", "d": 2}}), json!({"a": 1, "b": {"c": "y", "d": 2}, "e": true}));
        let check = |before: Option<&Value>, after: Option<&Value>, expected: &[&str]| {
            assert_eq!(differences("", before, after), expected);
        };
        check(Some(&before), Some(&after), &[r#"b.c: "x" -> "y""#, "e: - -> true"]);
        check(None, Some(&json!(3)), &["- -> 3"]);
        check(Some(&before), Some(&before), &[]);
    }
}
