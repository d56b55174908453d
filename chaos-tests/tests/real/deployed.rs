//! Owns the tests of what a deployment leans on: an admin token known beforehand, and `everdesk health`. Does not need an engine;
//! docker/test.sh does.

use anyhow::Context;
use chaos_tests::cluster::Cluster;
use chaos_tests::http as plain;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_founded_with_a_known_admin_token_opens_with_it_at_every_node() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n"))?;
    let file = file.to_str().context("a plain path")?;
    let cluster = Cluster::start_with(3, &["--admin-token-file", file]).await?;
    for node in cluster.nodes() {
        let status = async |bearer: &str| {
            let header = format!("Bearer {bearer}");
            let answer = plain::get(&node.admin, "/admin/v1/cluster", &[("authorization", &header)]).await?;
            anyhow::Ok(answer.status)
        };
        assert_eq!(status(TOKEN).await?, 200, "node {}", node.number);
        assert_eq!(status(&TOKEN[1..]).await?, 401, "node {}", node.number);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_check_passes_at_a_ready_node_and_fails_at_none() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let check = async |args: &[&str]| {
        let out = tokio::process::Command::new(cluster.binary()).arg("health").args(args).output().await?;
        anyhow::Ok((out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).trim().to_owned()))
    };
    let client = cluster.node(1).client.as_str();
    assert_eq!(check(&["--listen", client]).await?, (Some(0), "ready".to_owned()));
    assert_eq!(check(&["--listen", client, "--live"]).await?, (Some(0), "live".to_owned()));
    // Nobody serves clients there, but somebody listens: a node must not be taken for another.
    let (code, said) = check(&["--listen", &cluster.node(1).peer, "--within-ms", "500"]).await?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    Ok(())
}
