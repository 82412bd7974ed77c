//! `kite key`: bearer tokens of programs and people, each with a role.

use std::collections::BTreeSet;
use std::process::ExitCode;

use api::access::{Bearer, CreateKey, CreatedKey, Key, KeyList, Right, Role};
use api::id::KeyId;
use clap::Subcommand;
use hyper::Method;

use crate::client::block_on;
use crate::say;
use crate::session::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Say whose key KITE_TOKEN is, and what it may do.
    Who {
        #[command(flatten)]
        server: Server,
    },
    /// List keys: where they are used, what they may do, when they were used last.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Make a key and print its secret: once.
    Create {
        #[command(flatten)]
        server: Server,
        /// What people call it: where it is used.
        name: String,
        /// operator, owner, developer, support or finance.
        #[arg(long)]
        role: Role,
        /// Whose it is [default: of the tenant whose key asks, or the operator's].
        #[arg(long)]
        tenant: Option<String>,
        /// Of the role's rights only these; may be given again.
        #[arg(long = "right")]
        rights: Vec<Right>,
        /// For how many days it is good [default: until it is revoked].
        #[arg(long)]
        days: Option<u32>,
    },
    /// Make a key no key any more, at once.
    Revoke {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        key: KeyId,
    },
}

pub(crate) fn run(command: KeyCommand) -> anyhow::Result<ExitCode> {
    block_on(ask(command))?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Who { server } => {
            let bearer: Bearer = server.open()?.get("/v1/bearer").await?;
            let of = bearer.tenant.map_or_else(String::new, |tenant| format!(" of {tenant}"));
            say::out(&format!("{}{of}: {}", bearer.role, words(&bearer.rights)));
        }
        KeyCommand::List { server } => {
            let list: KeyList = server.open()?.get("/v1/keys").await?;
            list.keys.iter().for_each(|key| say::out(&line(key)));
        }
        KeyCommand::Create { server, name, role, tenant, rights, days } => {
            let rights = (!rights.is_empty()).then(|| rights.into_iter().collect());
            let expires_in_s = days.map(|days| days.saturating_mul(24 * 3600));
            let request = CreateKey { name, tenant, role, rights, expires_in_s };
            let created: CreatedKey = server.open()?.json(Method::POST, "/v1/keys", Some(&request)).await?;
            say::out(&created.secret);
        }
        KeyCommand::Revoke { server, key } => {
            let revoked: Key = server.open()?.json(Method::DELETE, &format!("/v1/keys/{key}"), None::<&()>).await?;
            say::out(&line(&revoked));
        }
    }
    Ok(())
}

fn words(rights: &BTreeSet<Right>) -> String {
    rights.iter().map(|right| right.word()).collect::<Vec<_>>().join(" ")
}

fn line(key: &Key) -> String {
    let of = key.tenant.as_deref().unwrap_or("(operator)");
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "until it is revoked".to_owned(),
    };
    let used = key.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("used {at}"));
    format!("{}  {of}  {}  {}  …{}  {state}, {used}", key.id, key.role, key.name, key.ends_with)
}
