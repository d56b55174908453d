//! Owns malformed command lines: the exit status and what is said on standard error.
//! Invariant: 2 is usage, as clap says it; 1 is everything else, in one line.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, free_port};
use tokio::io::AsyncWriteExt;

use super::{Report, check_still_serves};

const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Name, arguments, standard input, exit status, part of what is said. Capitals stand for [`Places`].
type Case = (&'static str, &'static [&'static str], &'static str, i32, &'static str);

const USAGE: &[Case] = &[
    ("nothing", &[], "", 2, "Usage: "),
    ("an unknown command", &["strat"], "", 2, "unrecognized subcommand 'strat'"),
    ("an unknown flag", &["start", "--lisen", "127.0.0.1:1"], "", 2, "unexpected argument '--lisen'"),
    (
        "a port above 65535",
        &["start", "--listen", "127.0.0.1:99999"],
        "",
        2,
        "invalid value '127.0.0.1:99999' for '--listen <IP:PORT>'",
    ),
    (
        "a join without a token",
        &["start", "--join", "127.0.0.1:7080"],
        "",
        2,
        "the following required arguments were not provided",
    ),
    ("shards in words", &["start", "--shards", "many"], "", 2, "invalid value 'many' for '--shards"),
    (
        "a password in an argument",
        &["agent", "add", "--site", "demo", "--name", "ann", "--password", "x"],
        "",
        2,
        "unexpected argument '--password'",
    ),
    ("a side that is none", &["chat", "--as", "boss"], "", 2, "invalid value 'boss' for '--as"),
];

const SETTINGS: &[Case] = &[
    ("no shards", &["start", "--shards", "0"], "", 1, "--shards must be 1 to 64"),
    ("a node that is dead at once", &["start", "--dead-after-s", "0"], "", 1, "--dead-after-s must be at least 1"),
    ("an empty token", &["start", "--join", "h:1", "--token", ""], "", 1, "--token is empty"),
    ("a join without a port", &["start", "--join", "h", "--token", "t"], "", 1, "--join must be HOST:"),
    ("one port twice", &["start", "--listen", "127.0.0.1:7080"], "", 1, "two listeners are given 127.0.0.1:7080"),
    (
        "elections before the next heartbeat",
        &["start", "--heartbeat-ms", "500"],
        "",
        1,
        "the shortest election timeout must be at least two heartbeats",
    ),
    ("a log filter that is none", &["start", "--log", "info,=x=y"], "", 1, "--log info,=x=y: "),
    ("a data directory that is a file", &["start", "--data-dir", "FILE"], "", 1, "is not a directory"),
    ("a data directory below a file", &["start", "--data-dir", "FILE/data"], "", 1, "FILE/data: Not a directory"),
    (
        "a data directory in use",
        &["start", "--log", "off", "--data-dir", "DATA", "--listen", "CLIENT", "--peer-listen", "PEER"],
        "",
        1,
        "data directory DATA is in use by another everdesk process (pid PID)",
    ),
    (
        "a data directory in use, with other ports",
        &[
            "start",
            "--log",
            "off",
            "--data-dir",
            "DATA",
            "--listen",
            "FREE",
            "--peer-listen",
            "FREE",
            "--admin-listen",
            "FREE",
        ],
        "",
        1,
        "data directory DATA is in use by another everdesk process (pid PID)",
    ),
    (
        "a port in use",
        &["start", "--log", "off", "--data-dir", "EMPTY/own", "--listen", "CLIENT"],
        "",
        1,
        "cannot listen on CLIENT: Address already in use",
    ),
    (
        "a join token that is none",
        &[
            "start",
            "--log",
            "off",
            "--data-dir",
            "EMPTY/own",
            "--join",
            "PEER",
            "--token",
            "join.x",
            "--listen",
            "FREE",
            "--peer-listen",
            "FREE",
            "--admin-listen",
            "FREE",
        ],
        "",
        1,
        "this is no join token",
    ),
];

const REQUESTS: &[Case] = &[
    (
        "an empty password",
        &["agent", "add", "--site", "demo", "--name", "ann", "--password-stdin", "--data-dir", "DATA"],
        "",
        1,
        "a password has 8 to 1024 bytes",
    ),
    (
        "a password that is not UTF-8",
        &["agent", "add", "--site", "demo", "--name", "ann", "--password-stdin", "--data-dir", "DATA"],
        "LATIN",
        1,
        "the password is not UTF-8",
    ),
    (
        "an agent of an unknown site",
        &["agent", "add", "--site", "nowhere", "--name", "ann", "--password-stdin", "--data-dir", "DATA"],
        "long enough",
        1,
        "no such site",
    ),
    ("a node that is none", &["admin", "drain", "n9", "--data-dir", "DATA"], "", 1, "no such node"),
    ("a node by a wrong name", &["admin", "remove", "../n1", "--data-dir", "DATA"], "", 1, "no such node"),
    ("the only node drained", &["admin", "drain", "n1", "--data-dir", "DATA"], "", 1, "no other node could serve"),
    ("a replica that is none", &["admin", "move", "r99", "n1", "--data-dir", "DATA"], "", 1, "no such replica"),
    ("a replica of meta moved", &["admin", "move", "r1", "n1", "--data-dir", "DATA"], "", 1, "they do not move"),
    ("a replica where one is", &["admin", "move", "r2", "n1", "--data-dir", "DATA"], "", 1, "has a replica of this"),
    ("the only node removed", &["admin", "remove", "n1", "--data-dir", "DATA"], "", 1, "nowhere to go"),
    ("a site with blanks", &["site", "add", "a b", "--data-dir", "DATA"], "", 1, "a site's name has 1 to 64 letters"),
    (
        "a directory without a credential",
        &["status", "--data-dir", "EMPTY"],
        "",
        1,
        "cannot read EMPTY/admin.json; name the node's data directory with --data-dir",
    ),
    (
        "a credential that is not JSON",
        &["status", "--data-dir", "BROKEN"],
        "",
        1,
        "BROKEN/admin.json is not a credential",
    ),
    ("a wrong token", &["status", "--data-dir", "WRONG", "--admin", "ADMIN"], "", 1, "a valid bearer token is needed"),
    (
        "an address where nobody is",
        &["status", "--data-dir", "DATA", "--admin", "http://FREE"],
        "",
        1,
        "http://FREE does not answer",
    ),
    ("the clients' address", &["status", "--data-dir", "DATA", "--admin", "http://CLIENT"], "", 1, "no such path"),
    ("an agent without a name", &["chat", "--as", "agent"], "", 1, "--as agent needs --name"),
    (
        "an agent with a wrong password",
        &["chat", "--as", "agent", "--name", "ann", "--password-stdin", "--node", "CLIENT"],
        "wrong\n",
        1,
        "unauthorized: name or password is wrong",
    ),
    (
        "a visitor of an unknown site",
        &["chat", "--as", "visitor", "--site", "nowhere", "--node", "CLIENT"],
        "",
        1,
        "not_found: no such site",
    ),
];

/// What the capitals stand for.
struct Places {
    words: Vec<(&'static str, String)>,
    _dir: tempfile::TempDir,
}

impl Places {
    fn around(cluster: &mut Cluster) -> anyhow::Result<Places> {
        let pid = cluster.process(1).context("node 1 is gone")?.pid();
        let dir = chaos_tests::cluster::directory()?;
        let below = |name: &str| dir.path().join(name).display().to_string();
        for (name, text) in [("broken", "{"), ("wrong", r#"{"url":"http://127.0.0.1:1","token":"admin.x"}"#)] {
            std::fs::create_dir(below(name))?;
            std::fs::write(format!("{}/admin.json", below(name)), text)?;
        }
        std::fs::create_dir(below("empty"))?;
        std::fs::write(below("file"), "")?;
        let node = cluster.node(1);
        let words = vec![
            ("DATA", node.data_dir.display().to_string()),
            ("EMPTY", below("empty")),
            ("BROKEN", below("broken")),
            ("WRONG", below("wrong")),
            ("FILE", below("file")),
            ("CLIENT", node.client.clone()),
            ("PEER", node.peer.clone()),
            ("ADMIN", format!("http://{}", node.admin)),
            ("PID", pid.to_string()),
        ];
        Ok(Places { words, _dir: dir })
    }

    fn fill(&self, text: &str, free: &str) -> String {
        let filled = self.words.iter().fold(text.to_owned(), |text, (word, place)| text.replace(word, place));
        filled.replace("FREE", free)
    }
}

#[tokio::test]
async fn malformed_command_lines_end_with_a_status_and_a_message_each() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let places = Places::around(&mut cluster)?;
    let mut report = Report::of("command line");
    for &(name, args, input, status, part) in USAGE.iter().chain(SETTINGS).chain(REQUESTS) {
        let free = format!("127.0.0.1:{}", free_port()?);
        // Every FREE of a `start` is an address of its own: port 0.
        let free = if args.first() == Some(&"start") { "127.0.0.1:0" } else { &free };
        let args: Vec<String> = args.iter().map(|arg| places.fill(arg, free)).collect();
        let wanted = format!("{status} {}", places.fill(part, free));
        let got = run(&cluster, &args, input).await;
        let part = places.fill(part, free);
        report.note(name, &wanted, got, |got| got.starts_with(&status.to_string()) && got.contains(&part));
    }
    check_still_serves(&cluster).await?;
    report.end(8)
}

/// Exit status and standard error, which is one line unless it is about usage.
async fn run(cluster: &Cluster, args: &[String], input: &str) -> anyhow::Result<String> {
    let mut child = tokio::process::Command::new(cluster.binary())
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let bytes = if input == "LATIN" { b"p\xe4ssword".as_slice() } else { input.as_bytes() };
        // A command that fails at once does not read.
        let _ = stdin.write_all(bytes).await;
    }
    let out = tokio::time::timeout(ENDS_WITHIN, child.wait_with_output()).await.context("it hangs")??;
    let status = out.status.code().with_context(|| format!("ended with {}", out.status))?;
    let said = String::from_utf8_lossy(&out.stderr).trim_end().to_owned();
    ensure!(status != 1 || said.lines().count() == 1, "more than one line:\n{said}");
    Ok(format!("{status} {}", said.replace('\n', " ")))
}
