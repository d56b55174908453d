//! Owns the command line. Does not do the work of a node. Invariant: an error is one line on standard error.

mod admin;
mod audit;
mod backup;
mod call;
#[cfg(test)]
mod docs_tests;
mod health;
mod recover;
mod show;

use crate::audit::verify::Broken;
use crate::client::terminal;
use crate::config::Config;
use crate::data_dir::DataDir;
use anyhow::{Context, bail};
use call::{Target, call};
use clap::{CommandFactory, FromArgMatches};
use cluster::offline::Drafted;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

/// Everdesk: a customer-service desk that loses nothing.
#[derive(Debug, clap::Parser)]
#[command(name = "everdesk", version)]
pub struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Start(Box<Config>),
    /// Join tokens for new nodes.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Human seats.
    Agent {
        #[command(subcommand)]
        command: AgentCommand,
    },
    /// Sites, i.e. tenants.
    Site {
        #[command(subcommand)]
        command: SiteCommand,
    },
    /// Administer the cluster.
    Admin {
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// What the cluster looks like from a node.
    Status {
        #[command(flatten)]
        target: Target,
        /// The answer of the admin API as it is.
        #[arg(long)]
        json: bool,
    },
    /// Back the cluster up, check backups, and restore them.
    Backup {
        #[command(subcommand)]
        command: backup::BackupCommand,
    },
    Recover(recover::RecoverArgs),
    /// Who did what: read the audit log, and check that nobody has changed it.
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Whether a node serves: exit status 0, or 1 and why not.
    Health(health::HealthArgs),
    /// Talk in the terminal.
    Chat(terminal::ChatArgs),
    /// Prints completions for a shell.
    Completions {
        shell: clap_complete::Shell,
    },
    /// The version of this program.
    Version,
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Prints a token with which one machine may join within 15 minutes.
    Create {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, clap::Subcommand)]
enum AgentCommand {
    /// Adds an agent, or sets a new password.
    Add {
        #[arg(long)]
        site: String,
        #[arg(long)]
        name: String,
        /// Read the password from standard input: passwords in arguments would be seen by others.
        #[arg(long, required = true)]
        password_stdin: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, clap::Subcommand)]
enum SiteCommand {
    Add {
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, clap::Subcommand)]
enum AdminCommand {
    /// Send a node's clients and leaders elsewhere; its replicas stay.
    Drain {
        /// E.g. n2, as `everdesk status` shows it.
        node: String,
        /// Let the node serve again, also one that was to be removed.
        #[arg(long)]
        cancel: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Let a new replica on another node take the place of one.
    Move {
        /// E.g. r12, as `everdesk status --json` shows it.
        replica: String,
        /// E.g. n4.
        node: String,
        #[command(flatten)]
        target: Target,
    },
    /// Drain a node, move its replicas elsewhere, and remove it for good; it ends by itself.
    Remove {
        /// E.g. n2, as `everdesk status` shows it.
        node: String,
        #[command(flatten)]
        target: Target,
    },
}

/// The whole command line, with a command below `admin` for each route of the admin API.
fn line_of_all() -> clap::Command {
    Line::command().mut_subcommand("admin", |admin| admin.subcommands(admin::commands()))
}

/// Runs the command; 0 done, 1 failed (clap itself exits with 2 for usage), 3 an audit log is broken.
pub fn main() -> ExitCode {
    let matches = line_of_all().get_matches();
    let done = match matches.subcommand_matches("admin").map(admin::run) {
        Some(Ok(true)) => Ok(()),
        Some(Err(error)) => Err(error),
        Some(Ok(false)) | None => match Line::from_arg_matches(&matches) {
            Ok(line) => run(line),
            Err(error) => error.exit(),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Broken>() { ExitCode::from(audit::BROKEN) } else { ExitCode::FAILURE }
        }
    }
}

fn run(line: Line) -> anyhow::Result<()> {
    match line.command {
        Command::Start(config) => crate::run::run(*config),
        Command::Token { command: TokenCommand::Create { target } } => create_token(&target),
        Command::Agent { command: AgentCommand::Add { site, name, target, .. } } => add_agent(&target, &site, &name),
        Command::Site { command: SiteCommand::Add { name, target } } => {
            call(&target, "POST", "/admin/v1/sites", Some(json!({ "name": name }))).map(|body| println!("{body}"))
        }
        Command::Admin { command: AdminCommand::Drain { node, cancel, target } } => {
            set_node_state(&target, &node, if cancel { "active" } else { "draining" })
        }
        Command::Admin { command: AdminCommand::Move { replica, node, target } } => {
            let path = format!("/admin/v1/replicas/{}/move", admin::escaped(&replica));
            call(&target, "POST", &path, Some(json!({ "to": node }))).map(|body| {
                println!("{} on {node} takes the place of {replica}", body["replica"].as_str().unwrap_or("?"))
            })
        }
        Command::Admin { command: AdminCommand::Remove { node, target } } => set_node_state(&target, &node, "leaving"),
        Command::Status { target, json } => status(&target, json),
        Command::Backup { command } => backup::main(command),
        Command::Recover(args) => recover::main(args),
        Command::Audit { command } => audit::main(command),
        Command::Health(args) => health::check(&args),
        Command::Chat(args) => chat(args),
        Command::Version => {
            println!("everdesk {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut line_of_all(), "everdesk", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn chat(args: terminal::ChatArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(terminal::run(args)).map_err(|error| anyhow::anyhow!("{error}"))
}

fn create_token(target: &Target) -> anyhow::Result<()> {
    let body = call(target, "POST", "/admin/v1/join-tokens", None)?;
    println!("{}", body["token"].as_str().context("the answer holds no token")?);
    Ok(())
}

fn add_agent(target: &Target, site: &str, name: &str) -> anyhow::Result<()> {
    let password = admin::secret_from_stdin()?;
    let body = json!({ "site": site, "name": name, "password": password });
    let body = call(target, "POST", "/admin/v1/agents", Some(body))?;
    println!("{}", body["agent"].as_str().context("the answer holds no agent")?);
    Ok(())
}

fn set_node_state(target: &Target, node: &str, state: &str) -> anyhow::Result<()> {
    let path = format!("/admin/v1/nodes/{}/state", admin::escaped(node));
    let body = call(target, "PUT", &path, Some(json!({ "state": state })))?;
    println!("{} is {}", body["node"].as_str().unwrap_or(node), body["state"].as_str().unwrap_or(state));
    Ok(())
}

fn status(target: &Target, json: bool) -> anyhow::Result<()> {
    let body = call(target, "GET", "/admin/v1/cluster", None)?;
    if json {
        println!("{body}");
        return Ok(());
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    println!("cluster {}", text(&body["name"]));
    println!("{:<6} {:<22} {:<22} {:<9} {:<9} zone", "node", "clients", "peers", "state", "seen");
    for node in body["nodes"].as_array().into_iter().flatten() {
        let seen = match (node["up"] == true, node["dead"] == true) {
            (true, _) => "up",
            (false, true) => "dead",
            (false, false) => "down",
        };
        println!(
            "{:<6} {:<22} {:<22} {:<9} {seen:<9} {}",
            text(&node["node"]),
            text(&node["client"]),
            text(&node["peer"]),
            text(&node["state"]),
            text(&node["zone"])
        );
    }
    println!("{:<6} {:<7} {:<6} {:<9} replicas (lag)", "shard", "leader", "epoch", "applied");
    for shard in body["shards"].as_array().into_iter().flatten() {
        let replicas: Vec<String> = shard["replicas"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|replica| {
                let lag = if replica["lag"].is_null() { "-".into() } else { replica["lag"].to_string() };
                let role = if replica["voter"] == false { " learner" } else { "" };
                format!("{}{role} ({lag})", text(&replica["node"]))
            })
            .collect();
        let (leader, applied) = (text(&shard["leader"]), text(&shard["applied"]));
        println!(
            "{:<6} {leader:<7} {:<6} {applied:<9} {}",
            text(&shard["shard"]),
            shard["epoch"].to_string(),
            replicas.join(", ")
        );
    }
    Ok(())
}

/// Makes and claims a directory that must hold nothing.
fn new_directory(dir: &Path) -> anyhow::Result<DataDir> {
    let claim = DataDir::claim(dir)?;
    let others = std::fs::read_dir(dir)?.flatten().filter(|entry| entry.file_name() != "everdesk.lock").count();
    if others > 0 {
        bail!("{} is not empty: name a new directory", dir.display());
    }
    Ok(claim)
}

fn random_u128() -> anyhow::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(u128::from_le_bytes(bytes))
}

fn time_text(ms: Option<u64>) -> String {
    let at = ms.and_then(|ms| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
    at.map_or_else(|| "-".into(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// What was made, and what to do with it.
fn print_drafted(drafted: &Drafted, dir: &Path) {
    let told = drafted.told;
    println!(
        "cluster {} of one node, {}: {} sessions; {} conversations with agents, {} waiting; {} mails under way were settled",
        drafted.name, drafted.node, told.sessions, told.assigned, told.waiting, told.mails
    );
    if !drafted.unknown_agents.is_empty() {
        println!("agents without an account, whose conversations nobody can take up: {:?}", drafted.unknown_agents);
    }
    println!("Start it with `everdesk start --data-dir {}`, then let new nodes join.", dir.display());
}
