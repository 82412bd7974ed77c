//! `kite tenant`: customers of the operator.

use std::process::ExitCode;

use api::fleet::TenantGrant;
use api::manifest::AppName;
use api::tenant::{
    ConfigureTenant, CreateTenant, CreatedTenant, SetTenantState, Tenant, TenantLimits, TenantList, TenantState,
};
use clap::Subcommand;
use hyper::Method;

use crate::client::block_on;
use crate::say;
use crate::session::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// List tenants.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show a tenant.
    Show {
        #[command(flatten)]
        server: Server,
        /// Its name.
        tenant: AppName,
    },
    /// Make a tenant, and print the secret of its owner's key: once.
    Create {
        #[command(flatten)]
        server: Server,
        /// 1 to 40 of a-z, 0-9 and `-`.
        tenant: AppName,
        /// What people call it [default: its name].
        #[arg(long)]
        title: Option<String>,
        /// Time zone of its days and months, as Europe/Berlin [default: UTC].
        #[arg(long)]
        time_zone: Option<String>,
        /// Currency of its prices; it cannot be changed later [default: EUR].
        #[arg(long)]
        currency: Option<String>,
    },
    /// Change what is set of a tenant; what is not named stays.
    Set(Box<SetArgs>),
    /// Let a tenant's people see everything and change nothing, and start none of its apps. What is played goes on.
    Suspend {
        #[command(flatten)]
        server: Server,
        /// Its name.
        tenant: AppName,
        /// Why, for the record, which the tenant can read.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Lift that.
    Resume {
        #[command(flatten)]
        server: Server,
        /// Its name.
        tenant: AppName,
    },
    /// Close a tenant: its keys are revoked, and what is played of its apps ends, saved. What it had is kept.
    Close {
        #[command(flatten)]
        server: Server,
        /// Its name.
        tenant: AppName,
        /// Why, for the record, which the tenant can read.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Set what a tenant may use at once, on all sites together.
    Grant {
        #[command(flatten)]
        server: Server,
        /// The tenant's name.
        tenant: String,
        /// Sessions for which it goes before those that borrow.
        #[arg(long)]
        guarantee: u32,
        /// Sessions that it may have beyond that, while others leave them.
        #[arg(long, default_value_t = 0)]
        borrow: u32,
        /// Never more [default: both together].
        #[arg(long)]
        maximum: Option<u32>,
        /// Its share where many wait.
        #[arg(long, default_value_t = 1)]
        weight: u32,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    server: Server,
    /// Its name.
    tenant: AppName,
    /// What people call it.
    #[arg(long)]
    title: Option<String>,
    /// Time zone of its days and months.
    #[arg(long)]
    time_zone: Option<String>,
    /// Its colour on pages, `#rrggbb`.
    #[arg(long)]
    colour: Option<String>,
    /// Sessions of one of its players at once; 0 takes the limit away.
    #[arg(long)]
    sessions_per_player: Option<u32>,
    /// MiB of all its releases together; 0 takes the limit away.
    #[arg(long)]
    releases_mb: Option<u64>,
}

pub(crate) fn run(command: TenantCommand) -> anyhow::Result<ExitCode> {
    block_on(ask(command))?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(command: TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::List { server } => {
            let list: TenantList = server.open()?.get("/v1/tenants").await?;
            list.tenants.iter().for_each(|tenant| say::out(&line(tenant)));
        }
        TenantCommand::Show { server, tenant } => show(&server.open()?.get(&path(&tenant)).await?),
        TenantCommand::Create { server, tenant, title, time_zone, currency } => {
            let request = CreateTenant { name: tenant, title, time_zone, currency };
            let created: CreatedTenant = server.open()?.json(Method::POST, "/v1/tenants", Some(&request)).await?;
            say::out(&created.token);
        }
        TenantCommand::Set(args) => set(*args).await?,
        TenantCommand::Suspend { server, tenant, reason } => {
            state(&server, &tenant, TenantState::Suspended, reason).await?;
        }
        TenantCommand::Resume { server, tenant } => state(&server, &tenant, TenantState::Active, None).await?,
        TenantCommand::Close { server, tenant, reason } => state(&server, &tenant, TenantState::Closed, reason).await?,
        TenantCommand::Grant { server, tenant, guarantee, borrow, maximum, weight } => {
            let grant = TenantGrant { guarantee, borrow, maximum, weight };
            let path = format!("/v1/tenants/{tenant}/grant");
            let granted: TenantGrant = server.open()?.json(Method::PUT, &path, Some(&grant)).await?;
            say::out(&grant_line(&tenant, &granted));
        }
    }
    Ok(())
}

fn path(tenant: &AppName) -> String {
    format!("/v1/tenants/{tenant}")
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let client = args.server.open()?;
    let path = path(&args.tenant);
    let limits = if args.sessions_per_player.is_some() || args.releases_mb.is_some() {
        // Limits are set all at once: the others stay as they are.
        let old = client.get::<Tenant>(&path).await?.settings.limits;
        Some(TenantLimits {
            sessions_per_player: args
                .sessions_per_player
                .map_or(old.sessions_per_player, |most| (most > 0).then_some(most)),
            releases_mb: args.releases_mb.map_or(old.releases_mb, |most| (most > 0).then_some(most)),
        })
    } else {
        None
    };
    let request = ConfigureTenant { title: args.title, time_zone: args.time_zone, colour: args.colour, limits };
    show(&client.json(Method::PATCH, &path, Some(&request)).await?);
    Ok(())
}

async fn state(server: &Server, tenant: &AppName, state: TenantState, reason: Option<String>) -> anyhow::Result<()> {
    let path = format!("/v1/tenants/{tenant}/state");
    let request = SetTenantState { state, reason };
    show(&server.open()?.json(Method::PUT, &path, Some(&request)).await?);
    Ok(())
}

fn line(tenant: &Tenant) -> String {
    let (name, state, title) = (&tenant.name, tenant.state.word(), &tenant.settings.title);
    format!("{name}  {state}  {title}")
}

fn show(tenant: &Tenant) {
    let settings = &tenant.settings;
    say::out(&line(tenant));
    say::out(&format!(
        "  time zone {}, currency {}, since {}",
        settings.time_zone, settings.currency, tenant.created_at
    ));
    let limits = settings.limits;
    if let Some(most) = limits.sessions_per_player {
        say::out(&format!("  at most {most} sessions of a player"));
    }
    if let Some(most) = limits.releases_mb {
        say::out(&format!("  at most {most} MiB of releases"));
    }
}

fn grant_line(tenant: &str, granted: &TenantGrant) -> String {
    let most = granted.maximum.map_or_else(|| "no maximum".to_owned(), |most| format!("at most {most}"));
    format!(
        "{tenant}: {} guaranteed, {} borrowed, {most}, weight {}",
        granted.guarantee, granted.borrow, granted.weight
    )
}
