//! Owns `everdesk chat`: lines in, messages out, over the same client as the tests. Does not know the cluster.
//! Invariant: it ends only after every line it took was acked or finally refused.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use proto::client::{Act, Event, EventKind, Party};
use proto::ids::SessionId;
use tokio::sync::mpsc;

use super::{ChatClient, Config, Item, PendingAck, http};

/// Unacked lines; at the limit the terminal reads no further line.
const LINES_MAX: usize = 64;

/// Which side to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// An anonymous visitor of the site.
    Visitor,
    /// A human seat; needs a name and a password.
    Agent,
}

/// Talk in the terminal: each line on standard input is a message.
///
/// An agent answers the session that spoke last; `/to SESSION` picks one, `/close` ends the conversation, `/quit` leaves.
#[derive(Debug, clap::Args)]
pub struct ChatArgs {
    /// Which side to be.
    #[arg(long = "as", value_enum)]
    pub side: Side,
    /// A node's HOST:PORT; give several to hop between them.
    #[arg(long = "node", default_value = "127.0.0.1:8080")]
    pub nodes: Vec<String>,
    /// The site's name.
    #[arg(long, default_value = "demo")]
    pub site: String,
    /// The agent's name.
    #[arg(long)]
    pub name: Option<String>,
    /// Read the agent's password from the first line of standard input.
    #[arg(long)]
    pub password_stdin: bool,
    /// Read the agent's password from the first line of this file.
    #[arg(long)]
    pub password_file: Option<PathBuf>,
    /// Print every received frame as it came, one per line.
    #[arg(long)]
    pub json: bool,
}

/// Runs until standard input ends and everything is acked, or until `/quit`.
/// # Errors
/// No node answers the login, or it is refused.
pub async fn run(args: ChatArgs) -> anyhow::Result<()> {
    let mut input = lines_of_stdin();
    let (config, session) = enter(&args, &mut input).await?;
    let me = config.me;
    let (client, items) = ChatClient::start(Config { raw: args.json, ..config });
    let (acks, acks_in) = mpsc::channel(LINES_MAX);
    let mut screen = Screen { json: args.json, me, session, stopped: false };
    let talk = Talk { client, acks };
    converse(talk, items, acks_in, &mut input, &mut screen).await
}

struct Talk {
    client: ChatClient,
    acks: mpsc::Sender<PendingAck>,
}

async fn converse(
    talk: Talk,
    mut items: mpsc::Receiver<Item>,
    mut acks: mpsc::Receiver<PendingAck>,
    input: &mut mpsc::Receiver<String>,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    // Its own task: a line that waits for its ack must not keep events from the screen.
    let mut waits = tokio::task::JoinSet::new();
    waits.spawn(async move {
        while let Some(ack) = acks.recv().await {
            if let Err(error) = ack.acked().await {
                eprintln!("not sent: {error}");
            }
        }
    });
    let mut talk = Some(talk);
    // Keeps the client alive while the last acks come in.
    let client = talk.as_ref().map(|talk| talk.client.clone());
    loop {
        tokio::select! {
            item = items.recv() => match item {
                Some(item) => screen.show(item)?,
                None => break,
            },
            line = input.recv(), if talk.is_some() => {
                let goes_on = match (&talk, line) {
                    (Some(talk), Some(line)) => say(talk, &line, screen).await?,
                    _ => false,
                };
                if !goes_on {
                    talk = None;
                }
            }
            _ = waits.join_next() => break,
        }
        if screen.stopped {
            bail!("the token is not valid");
        }
    }
    // What came with the last ack is shown before the end.
    while let Ok(item) = items.try_recv() {
        screen.show(item)?;
    }
    drop(client);
    Ok(())
}

/// Does what a line says; false ends the conversation with the terminal.
async fn say(talk: &Talk, line: &str, screen: &mut Screen) -> anyhow::Result<bool> {
    if line == "/quit" {
        return Ok(false);
    }
    if let Some(id) = line.strip_prefix("/to ") {
        match id.trim().parse() {
            Ok(session) => screen.session = Some(session),
            Err(error) => eprintln!("{error}"),
        }
        return Ok(true);
    }
    let Some(session) = screen.session else {
        if !line.is_empty() {
            eprintln!("no session yet: wait for a visitor, or pick one with /to SESSION");
        }
        return Ok(true);
    };
    if line == "/close" {
        if let Err(error) = talk.client.close(session).await {
            eprintln!("not closed: {error}");
        }
    } else if !line.is_empty() {
        let ack = talk.client.enqueue(session, line).await?;
        // A full queue of unacked lines makes the terminal wait; nothing typed is dropped.
        talk.acks.send(ack).await.ok().context("the waiting task ended")?;
    }
    Ok(true)
}

async fn enter(args: &ChatArgs, input: &mut mpsc::Receiver<String>) -> anyhow::Result<(Config, Option<SessionId>)> {
    let password = match (args.side, &args.name, &args.password_file) {
        (Side::Visitor, ..) => String::new(),
        (Side::Agent, None, _) => bail!("--as agent needs --name"),
        (Side::Agent, Some(_), Some(path)) => first_line(&tokio::fs::read_to_string(path).await?),
        (Side::Agent, Some(_), None) if args.password_stdin => {
            input.recv().await.context("standard input ended before the password")?
        }
        (Side::Agent, Some(_), None) => bail!("--as agent needs --password-stdin or --password-file"),
    };
    let mut last = None;
    for node in &args.nodes {
        let entered = match (args.side, &args.name) {
            (Side::Agent, Some(name)) => http::login(node, &args.site, name, &password)
                .await
                .map(|agent| (Config::new(args.nodes.clone(), agent.token, Party::Agent(agent.agent)), None)),
            _ => http::create_visitor(node, &args.site).await.map(|new| {
                (Config::new(args.nodes.clone(), new.token, Party::Visitor(new.visitor)), Some(new.session))
            }),
        };
        match entered {
            Ok(entered) => return Ok(entered),
            Err(refused @ http::HttpError::Refused(_)) => return Err(refused.into()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no node was given")?.into())
}

/// A thread of its own reads standard input: a blocked read must not keep the runtime from ending.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (lines, lines_out) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines_out
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

struct Screen {
    json: bool,
    me: Party,
    /// Where lines go: a visitor's own session, or the one that spoke last.
    session: Option<SessionId>,
    stopped: bool,
}

impl Screen {
    fn show(&mut self, item: Item) -> anyhow::Result<()> {
        self.stopped |= matches!(item, Item::Stopped(_));
        if let Item::Event(event) = &item {
            match (&event.kind, self.me) {
                // Moved to somebody else: lines for it would be refused.
                (EventKind::Assigned { agent }, Party::Agent(me)) if *agent != me => {
                    self.session.take_if(|session| *session == event.session);
                }
                (EventKind::Message { from: Party::Visitor(_), .. } | EventKind::Assigned { .. }, _) => {
                    self.session = Some(event.session);
                }
                _ => {}
            }
        }
        let line = match item {
            Item::Raw(text) => text,
            Item::ProtocolViolation(violation) => {
                eprintln!("protocol violation: {violation}");
                return Ok(());
            }
            Item::Connected { node, addr } => {
                eprintln!("connected to {node} at {addr}");
                return Ok(());
            }
            Item::Disconnected { reason } => {
                eprintln!("disconnected: {reason}");
                return Ok(());
            }
            Item::Event(event) if !self.json => human(&event),
            _ => return Ok(()),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        Ok(())
    }
}

fn human(event: &Event<'_>) -> String {
    let place = format!("{} #{}", &event.session.to_string()[..8], event.seq);
    match &event.kind {
        EventKind::Message { from, text, attachments, .. } if text.is_empty() && attachments.is_empty() => {
            format!("{place} {}: (recalled)", party(*from))
        }
        EventKind::Message { from, text, attachments, .. } => {
            let files: String = attachments.iter().map(|file| format!(" [{}]", clean(&file.name))).collect();
            format!("{place} {}: {}{files}", party(*from), clean(text))
        }
        EventKind::Assigned { agent } => format!("{place} -- {agent} takes the conversation"),
        EventKind::Closed { by, reason: None } => format!("{place} -- closed by {}", party(*by)),
        EventKind::Closed { by, reason: Some(reason) } => {
            format!("{place} -- closed by {}: {}", party(*by), clean(reason))
        }
        EventKind::Queued { by } => format!("{place} -- given back by {}, waits again", party(*by)),
        EventKind::Act { from, act, .. } => format!("{place} -- {} {}", party(*from), done(act)),
        EventKind::Gone => format!("{place} -- (erased)"),
        EventKind::Erased { upto } => format!("{place} -- erased up to #{upto}"),
        EventKind::Hidden => format!("{place} -- (between agents)"),
    }
}

fn done(act: &Act) -> String {
    match act {
        Act::Note { text, .. } => format!("notes: {}", clean(text)),
        Act::Edit { seq, text } => format!("edits #{seq}: {}", clean(text)),
        Act::Recall { seq } => format!("recalls #{seq}"),
        Act::React { seq, emoji, on } => format!("{} {} #{seq}", if *on { "puts" } else { "takes" }, clean(emoji)),
        Act::Label { label, on } => format!("{} label {}", if *on { "puts" } else { "takes" }, clean(label)),
        Act::Snooze { .. } => "lays the conversation aside".to_owned(),
        Act::Reopen { .. } => "opens the conversation again".to_owned(),
        Act::Rate { score, comment, .. } => format!("rates it {score} of 5: {}", clean(comment)),
        Act::Prompt { name, text, .. } => {
            format!("says as {}: {}", clean(name.as_deref().unwrap_or("the site")), clean(text))
        }
        Act::Invite { text, .. } => format!("invites: {}", clean(text)),
        Act::Decline { seq } => format!("declines #{seq}"),
        Act::Attribute { name, value, .. } => {
            format!("sets {} to {}", clean(name), clean(value.as_deref().unwrap_or("nothing")))
        }
        Act::Merge { session, upto } => format!("was in {session} before, up to #{upto}"),
    }
}

/// Control characters could drive the reader's terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn party(party: Party) -> String {
    match party {
        Party::Visitor(_) => "visitor".to_owned(),
        Party::Agent(agent) => format!("agent {agent}"),
        Party::System => "everdesk".to_owned(),
    }
}
