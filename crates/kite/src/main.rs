//! The `kite` command: `kite up` and everything that an operator types.
//!
//! Each sub-command is a file. Deliberately absent: logic of sessions, instances or media.

mod admin;
mod agent;
mod app;
mod archive;
mod client;
mod config;
mod content_store;
mod control_plane;
mod doctor;
mod fleet;
mod host;
mod install;
mod key;
mod plan;
mod pool;
mod push;
mod release;
mod say;
mod session;
mod telemetry;
mod tenant;
mod up;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Games on your machine, played in any browser.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines look on standard error. What is logged is chosen by the variable KITE_LOG, for example
    /// `KITE_LOG=debug` or `KITE_LOG=info,node=debug`.
    #[arg(long, global = true, value_enum, env = "KITE_LOG_FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on this machine: control plane, node, web pages, database.
    Up(Box<up::UpArgs>),
    /// Start the control plane of a fleet: nodes are machines of their own, and its end ends no game.
    Control(Box<control_plane::ControlPlaneArgs>),
    /// Start the agent of this machine, as a node of a fleet.
    Node(Box<agent::AgentArgs>),
    /// Look at nodes, let machines join, empty them.
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    /// Make tenants, set what they may do, suspend and close them.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Make and revoke keys, each with a role.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Say what was played, and for how long: the intervals that bills are made of.
    Usage(usage::UsageArgs),
    /// Look up who changed what.
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Keep instances ready before anybody asks for them.
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Look at packages of games.
    #[command(subcommand)]
    App(app::AppCommand),
    /// Launch sessions, look at them, end them, and have things done inside of them.
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Look after the store of releases and saves: verify, count, collect.
    #[command(subcommand)]
    Content(content_store::ContentCommand),
    /// Say what this machine lacks, what that costs, and what to do.
    Doctor(doctor::DoctorArgs),
    /// Print the OpenAPI document of the REST API.
    Openapi,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // `up` has news all the time; of the others only warnings matter.
    let default =
        if matches!(cli.command, Command::Up(_) | Command::Control(_) | Command::Node(_)) { "info" } else { "warn" };
    start_log(cli.log_format, default);
    let result = match cli.command {
        Command::Up(args) => up::run(*args),
        Command::Control(args) => control_plane::run(*args),
        Command::Node(args) => agent::run(*args),
        Command::Fleet(command) => fleet::run(command),
        Command::Tenant(command) => tenant::run(command),
        Command::Key(command) => key::run(command),
        Command::Usage(args) => usage::run(args),
        Command::Admin(command) => admin::run(command),
        Command::Pool(command) => pool::run(command),
        Command::App(command) => app::run(command),
        Command::Session(command) => session::run(command),
        Command::Content(command) => content_store::run(command),
        Command::Doctor(args) => doctor::run(&args),
        Command::Openapi => {
            say::out(&control::openapi_json());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        say::error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn start_log(format: LogFormat, default: &str) {
    let filter =
        tracing_subscriber::EnvFilter::builder().with_env_var("KITE_LOG").try_from_env().unwrap_or_else(|_absent| {
            tracing_subscriber::EnvFilter::new(format!("{default},sqlx=warn,sea_orm_migration=warn"))
        });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log that cannot be written, on a full disk, ends no game: the fallback would be a panic.
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
