//! Owns which nodes are measured: own processes or given addresses, and their counters. Does not make load.
//! Invariant: a counter that cannot be read is absent, never 0.

use std::time::Duration;

use anyhow::Context;
use chaos_tests::cluster::{Cluster, cpu_of};
use chaos_tests::http;

/// Which nodes.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// Node processes to start.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Client addresses of nodes that run already; their CPU time is not measured.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    external: Vec<String>,
    /// A further argument for `everdesk start`; may be repeated.
    #[arg(long = "node-arg", allow_hyphen_values = true)]
    node_args: Vec<String>,
}

/// The nodes under load.
pub enum Target {
    Own(Box<Cluster>),
    External(Vec<String>),
}

/// Sums over all nodes.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    pub cpu: Option<Duration>,
    pub fsyncs: Option<f64>,
    pub client_cpu: Duration,
}

impl Target {
    /// Starts the nodes, or takes the given ones.
    /// # Errors
    /// A node does not start.
    pub async fn open(args: &TargetArgs) -> anyhow::Result<Target> {
        if !args.external.is_empty() {
            return Ok(Target::External(args.external.clone()));
        }
        let node_args: Vec<&str> = args.node_args.iter().map(String::as_str).collect();
        Ok(Target::Own(Box::new(Cluster::start_with(args.nodes, &node_args).await?)))
    }

    /// The same, for measurements that kill or look into the processes.
    /// # Errors
    /// A node does not start, or `--external` was given.
    pub async fn own(args: &TargetArgs) -> anyhow::Result<Cluster> {
        match Target::open(args).await? {
            Target::Own(cluster) => Ok(*cluster),
            Target::External(_) => anyhow::bail!("this measurement needs processes of its own: leave out --external"),
        }
    }

    pub fn clients(&self) -> Vec<String> {
        match self {
            Target::Own(cluster) => cluster.clients_from(0),
            Target::External(clients) => clients.clone(),
        }
    }

    pub async fn counters(&self) -> Counters {
        let client_cpu = cpu_of(std::process::id());
        let Target::Own(cluster) = self else { return Counters { cpu: None, fsyncs: None, client_cpu } };
        let cpu = cluster.pids().into_iter().map(cpu_of).sum();
        let mut fsyncs = Some(0.0);
        for node in cluster.nodes() {
            let here = fsyncs_of(&[&node.admin, &node.client]).await;
            fsyncs = fsyncs.zip(here).map(|(sum, here)| sum + here);
        }
        Counters { cpu: Some(cpu), fsyncs, client_cpu }
    }
}

async fn fsyncs_of(addrs: &[&str]) -> Option<f64> {
    for addr in addrs {
        if let Ok(answer) = http::get(addr, "/metrics", &[]).await
            && answer.status == 200
        {
            return counter(&answer.text(), "chat_storage_fsyncs_total").ok();
        }
    }
    None
}

fn counter(text: &str, name: &str) -> anyhow::Result<f64> {
    let lines = text.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.reduce(|a, b| a + b).with_context(|| format!("no {name} in /metrics"))
}
