//! Owns the commands about what the nodes run: versions and certificates. Does not decide when either changes.
//! Invariant: as for every command, an error is one line on standard error.

use super::{Target, call};
use serde_json::Value;

#[derive(Debug, clap::Subcommand)]
pub(super) enum UpgradeCommand {
    /// Show the version in force, what each node speaks, and whether a newer one can be put in force.
    Status {
        #[command(flatten)]
        target: Target,
        /// The answer of the admin API as it is.
        #[arg(long)]
        json: bool,
    },
    /// Put the newest version that every node speaks in force. There is no way back to older builds after this.
    Finalize {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum CertificatesCommand {
    /// Show the authorities, and whose certificate each node has.
    Status {
        #[command(flatten)]
        target: Target,
        /// The answer of the admin API as it is.
        #[arg(long)]
        json: bool,
    },
    /// Draw a new authority and give every node a new certificate; the old authority ends once nobody needs it.
    Renew {
        #[command(flatten)]
        target: Target,
    },
}

pub(super) fn upgrade(command: UpgradeCommand) -> anyhow::Result<()> {
    match command {
        UpgradeCommand::Status { target, json } => {
            let body = call(&target, "GET", "/admin/v1/upgrade", None)?;
            if json {
                println!("{body}");
                return Ok(());
            }
            println!("version in force: {}", body["version"]);
            println!("{:<7} speaks", "node");
            for node in rows(&body["nodes"]) {
                let speaks = match (&node["min"], &node["max"]) {
                    (Value::Number(min), Value::Number(max)) => format!("{min} to {max}"),
                    _ => "not said yet".to_owned(),
                };
                println!("{:<7} {speaks}", text(&node["node"]));
            }
            match &body["next"] {
                Value::Number(next) => {
                    println!("every node speaks {next}: `everdesk admin upgrade finalize` puts it in force")
                }
                _ => println!("no newer version is spoken by every node"),
            }
            Ok(())
        }
        UpgradeCommand::Finalize { target } => {
            let body = call(&target, "POST", "/admin/v1/upgrade/finalize", None)?;
            println!("version {} is in force", body["version"]);
            Ok(())
        }
    }
}

pub(super) fn certificates(command: CertificatesCommand) -> anyhow::Result<()> {
    match command {
        CertificatesCommand::Status { target, json } => {
            let body = call(&target, "GET", "/admin/v1/certificates", None)?;
            if json {
                println!("{body}");
                return Ok(());
            }
            for authority in rows(&body["authorities"]) {
                println!("authority {}: {}", authority["authority"], text(&authority["pin"]));
            }
            println!("{:<7} certified by", "node");
            for node in rows(&body["nodes"]) {
                println!("{:<7} {}", text(&node["node"]), node["authority"]);
            }
            Ok(())
        }
        CertificatesCommand::Renew { target } => {
            let body = call(&target, "POST", "/admin/v1/certificates/renew", None)?;
            let newest =
                rows(&body["authorities"]).last().map_or(Value::Null, |authority| authority["authority"].clone());
            println!("authority {newest} takes over; `everdesk admin certificates status` shows when it has");
            Ok(())
        }
    }
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
