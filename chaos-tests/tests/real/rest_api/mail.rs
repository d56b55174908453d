//! Owns the tests of e-mails on real nodes, against a server that does what such servers do: refuse for now, refuse for good, stall and
//! break off. Leaders die in between.

use super::*;
use base64ct::{Base64UrlUnpadded, Encoding};
use chaos_tests::smtp::{Came, SmtpServer, Verdict};
use mail_parser::MessageParser;
use node::client::Config;
use proto::client::{About, Party};
use proto::command::Target;
use proto::desk::Channel;
use proto::ids::SessionId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Behind this a message counts as missed here.
const MISSED_AFTER: Duration = Duration::from_secs(4);
/// Longest wait for an e-mail: a leader dies, and a try or two fail.
const MAIL_WITHIN: Duration = Duration::from_secs(90);

/// A site that writes e-mails, and the server that they go to.
struct Post {
    cluster: Cluster,
    server: SmtpServer,
    owner: String,
    ann: Person,
}

/// What a person reads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    id: String,
    to: Vec<String>,
    subject: String,
    text: String,
}

fn read(came: &Came) -> anyhow::Result<Read> {
    let parsed = MessageParser::default().parse(&came.text).context("it is no e-mail")?;
    let id = parsed.message_id().context("no Message-ID")?.to_owned();
    let text = parsed.body_text(0).context("no text")?.into_owned();
    ensure!(parsed.header("Auto-Submitted").is_some(), "nobody knows that a machine wrote it");
    Ok(Read { id, to: came.to.clone(), subject: parsed.subject().unwrap_or_default().to_owned(), text })
}

impl Post {
    async fn start() -> anyhow::Result<Post> {
        let server = SmtpServer::start().await?;
        let url = server.url();
        let args = ["--smtp-url", url.as_str(), "--mail-from", "chat@everdesk.example"];
        let cluster = Cluster::start_with(3, &args).await?;
        let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
        person(&cluster, SITE, "ann", "agent").await?;
        let (_, ann) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
        let post = Post { cluster, server, owner, ann };
        let missed_after_s = MISSED_AFTER.as_secs();
        let rules = json!({ "on": true, "missed_after_s": missed_after_s, "forms_to": "desk@shop.example",
            "form_after_s": 3, "sender": "The shop", "base_url": "https://chat.shop.example" });
        let shown = post.done("PUT", "/v1/mail", Some(rules)).await?;
        ensure!(shown["on"] == true && shown["can_send"] == true, "{shown}");
        Ok(post)
    }

    async fn ask(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Answer> {
        ask_any(&self.cluster, token, method, path, body).await
    }

    async fn done(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        done_by_any(&self.cluster, &self.owner, method, path, body).await
    }

    /// Makes a visitor whose page knows that address, and who talks to ann.
    async fn visitor(&self, email: &str) -> anyhow::Result<(SessionId, String, Person)> {
        let (new, visitor) = Person::visitor(&self.cluster, 2).await?;
        self.knows(&visitor, new.session, &[("email", email)]).await?;
        visitor.client.send(new.session, "hello").await?;
        self.ann.wait("it is ann's", |told| told.holder(new.session)).await?;
        Ok((new.session, new.token, visitor))
    }

    /// As `visitor`, of one whose page has proved who they are: Zoë, zoe@example.org.
    async fn proven_visitor(&self) -> anyhow::Result<(SessionId, String, Person)> {
        let made = self.done("PUT", "/v1/identity-keys/one", None).await?;
        let key = Base64UrlUnpadded::decode_vec(made["secret"].as_str().context("no secret")?)?;
        let identity = json!({ "identity": { "token": super::visitors::token(&key, "u17", "j1") } });
        let new = done_by_any(&self.cluster, "", "POST", &format!("/v1/sites/{SITE}/visitors"), Some(identity)).await?;
        let text = |name: &str| new[name].as_str().map(str::to_owned).context("a field is missing");
        let (session, token) = (text("session")?.parse()?, text("token")?);
        let me = Party::Visitor(text("visitor")?.parse()?);
        let visitor = Person::start(Config::new(self.cluster.clients_from(2), token.clone(), me));
        visitor.client.send(session, "hello").await?;
        self.ann.wait("it is ann's", |told| told.holder(session)).await?;
        Ok((session, token, visitor))
    }

    async fn knows(&self, visitor: &Person, session: SessionId, facts: &[(&str, &str)]) -> anyhow::Result<()> {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned().into(), (*value).to_owned().into()));
        visitor.client.about(About { session, team: None, facts: facts.collect(), channel: Channel::WEB }).await?;
        Ok(())
    }

    /// What was taken for that address, each Message-ID once. A repetition says the same.
    fn taken_for(&self, to: &str) -> anyhow::Result<Vec<Read>> {
        let mut found: BTreeMap<String, Read> = BTreeMap::new();
        for came in self.server.taken() {
            let read = read(&came)?;
            ensure!(came.from == "chat@everdesk.example", "{came:?}");
            if read.to == [to] {
                let known = found.entry(read.id.clone()).or_insert_with(|| read.clone());
                ensure!(known.text == read.text && known.subject == read.subject, "{known:?} is not {read:?}");
            }
        }
        Ok(found.into_values().collect())
    }

    async fn until_taken(&self, to: &str, count: usize) -> anyhow::Result<Vec<Read>> {
        let came = wait::until("the e-mails came", MAIL_WITHIN, async || {
            self.taken_for(to).ok().filter(|taken| taken.len() >= count)
        });
        came.await.with_context(|| format!("{to}: {:?}", self.server.came().len()))
    }

    async fn leader(&self, session: SessionId) -> anyhow::Result<u64> {
        let overview = self.cluster.overview().await?;
        let shard = Target::Session(session).shard(overview.data_shards().count() as u32).to_string();
        let found = wait::until("the shard has a leader", SOON, async || {
            let text = self.cluster.command(&["admin", "shards", "show", &shard, "--json"], "").await.ok()?;
            let view: Value = serde_json::from_str(&text).ok()?;
            view["leader"].as_str()?.trim_start_matches('n').parse::<u64>().ok()
        });
        found.await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_missed_message_is_told_in_one_e_mail_while_leaders_die_and_the_server_fails() -> anyhow::Result<()> {
    let mut post = Post::start().await?;
    post.server.decide(|_, at| match at % 6 {
        0 => Verdict::Say("451 later"),
        1 => Verdict::TakeAndReset,
        2 => Verdict::Reset,
        // Longer than anybody waits.
        5 if at < 6 => Verdict::Stall(Duration::from_secs(60)),
        _ => Verdict::Take,
    });
    let mut sessions = Vec::new();
    for at in 0..4 {
        let email = format!("visitor{at}@example.com");
        let (session, _, visitor) = post.visitor(&email).await?;
        // The page closes.
        drop(visitor);
        sessions.push((session, email));
    }
    let rounds = 3;
    for round in 0..rounds {
        for (session, _) in &sessions {
            for part in ["first", "second"] {
                post.ann.client.send(*session, format!("round {round}, {part} part")).await?;
            }
        }
        let victim = post.leader(sessions[round].0).await?;
        post.cluster.kill(victim);
        wait::pause(MISSED_AFTER * 2).await;
        post.cluster.restart(&[victim]).await?;
    }
    for (session, email) in &sessions {
        let all = wait::until("every message was told", MAIL_WITHIN, async || {
            let taken = post.taken_for(email).ok()?;
            let is_told = |text: &str| taken.iter().any(|read| read.text.contains(text));
            let all = (0..rounds)
                .all(|round| ["first", "second"].iter().all(|part| is_told(&format!("round {round}, {part} part"))));
            all.then_some(taken)
        });
        let taken = all.await.with_context(|| format!("{session}: {:?}", post.taken_for(email)))?;
        for round in 0..rounds {
            for part in ["first", "second"] {
                let text = format!("round {round}, {part} part");
                let told = taken.iter().filter(|read| read.text.contains(&text)).count();
                ensure!(told == 1, "{text} stands in {told} e-mails: {taken:#?}");
            }
        }
        ensure!(taken.iter().all(|read| read.subject == "New messages from The shop"), "{taken:?}");
    }
    // What was taken without a word is tried again, after pauses that have grown meanwhile.
    post.server.decide(|_, _| Verdict::Take);
    let empty = wait::until("nothing waits", MAIL_WITHIN * 3, async || {
        let queue = post.done("GET", "/v1/mail/queue", None).await.ok()?;
        (queue["total"] == 0 && queue["partial"] == false).then_some(())
    });
    empty.await?;
    let ids: BTreeSet<String> = post.server.came().iter().filter_map(|came| Some(read(came).ok()?.id)).collect();
    ensure!(ids.len() < post.server.came().len(), "nothing was tried twice: the test shows nothing");
    post.ann.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_read_or_is_there_or_wants_none_gets_no_e_mail() -> anyhow::Result<()> {
    let post = Post::start().await?;
    let (reader, _, reads) = post.visitor("reads@example.com").await?;
    let (stayer, _, stays) = post.visitor("stays@example.com").await?;
    let (goer, _, goes) = post.visitor("goes@example.com").await?;
    for session in [reader, stayer, goer] {
        post.ann.client.send(session, "did you see this?").await?;
    }
    let seen = |told: &chaos_tests::person::Told| told.events.last().map(|event| event.seq);
    let head = reads.wait("it is there", |told| seen(told).filter(|seq| *seq >= 3)).await?;
    reads.client.cursor(reader, Some(head), Some(head)).await?;
    drop((reads, goes));
    let told = post.until_taken("goes@example.com", 1).await?;
    ensure!(told.len() == 1 && told[0].text.contains("did you see this?"), "{told:?}");
    // A page that is open, and not looked at: nothing is said until it closes.
    wait::pause(MISSED_AFTER).await;
    ensure!(post.taken_for("stays@example.com")?.is_empty(), "the page is open");
    drop(stays);
    post.until_taken("stays@example.com", 1).await?;
    ensure!(post.taken_for("reads@example.com")?.is_empty(), "they have read it");
    // No more, please. What only looks at the address changes nothing; a wrong key neither.
    let at = told[0].text.find("/v1/unsubscribe/").context("no address to stop them")?;
    let path = told[0].text[at..].split_whitespace().next().context("no address")?.to_owned();
    ensure!(post.ask("", "GET", &path, None).await?.status == 200);
    let wrong = format!("{}0", &path[..path.len() - 1]);
    if wrong != path {
        ensure!(post.ask("", "POST", &wrong, None).await?.status == 404);
    }
    post.ann.client.send(goer, "and this?").await?;
    post.until_taken("goes@example.com", 2).await?;
    let stopped = post.ask("", "POST", &path, None).await?;
    ensure!(stopped.status == 200, "{} {}", stopped.status, stopped.text());
    post.ann.client.send(goer, "nobody hears this").await?;
    let (marker, _, last) = post.visitor("marker@example.com").await?;
    drop(last);
    post.ann.client.send(marker, "a later one").await?;
    post.until_taken("marker@example.com", 1).await?;
    ensure!(post.taken_for("goes@example.com")?.len() == 2, "they wanted no more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_while_the_site_is_closed_comes_to_its_people_in_one_e_mail_with_one_set_of_headers()
-> anyhow::Result<()> {
    let post = Post::start().await?;
    let hours = r#"{"zone":"Asia/Shanghai","days":[{"date":"2099-01-01","open":[{"from":"09:00","to":"18:00"}]}]}"#;
    post.cluster.command(&["admin", "desks", "set-rules", SITE, "--hours", hours, "--json"], "").await?;
    let closed = wait::until("it is closed", SOON, async || {
        let state = post.ask("", "GET", &format!("/v1/sites/{SITE}"), None).await.ok()?;
        json_of(&state).ok().filter(|state| state["open"] == false)
    });
    closed.await?;
    let names =
        ["Bea", "=?utf-8?q?Bea=0D=0ABcc:_victim@example.com?=", "\u{202e}aeB, <mallory@example.com>", "访客 🙂"];
    let mut usual = None;
    for (at, name) in names.into_iter().enumerate() {
        let (new, visitor) = Person::visitor(&post.cluster, at).await?;
        post.knows(&visitor, new.session, &[("email", "bea@example.com"), ("name", name)]).await?;
        visitor.client.send(new.session, format!("{at}: are you there?")).await?;
        visitor.client.send(new.session, "Bcc: victim@example.com\r\n\r\n.\r\nQUIT").await?;
        let taken = post.until_taken("desk@shop.example", at + 1).await?;
        let mine: Vec<&Read> = taken.iter().filter(|read| read.id.contains(&new.session.to_string())).collect();
        ensure!(mine.len() == 1, "{taken:#?}");
        ensure!(mine[0].text.contains(&format!("{at}: are you there?")) && mine[0].text.contains("QUIT"), "{mine:?}");
        let came = post.server.taken().pop().context("it came")?;
        ensure!(came.to == ["desk@shop.example"], "{:?}", came.to);
        let parsed = MessageParser::default().parse(&came.text).context("it is no e-mail")?;
        ensure!(parsed.reply_to().and_then(|to| to.first()?.address()) == Some("bea@example.com"));
        let headers: Vec<String> = parsed.headers().iter().map(|header| header.name().to_owned()).collect();
        ensure!(usual.get_or_insert_with(|| headers.clone()) == &headers, "{name}: {headers:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transcript_is_read_printed_and_sent_and_what_no_server_takes_is_shown_and_sent_after_all()
-> anyhow::Result<()> {
    let post = Post::start().await?;
    let (session, token, visitor) = post.proven_visitor().await?;
    post.ann.client.send(session, "<b>good day</b>").await?;
    let note = json!({ "note": { "text": "between us" } });
    post.done("POST", &format!("/v1/conversations/{session}/events"), Some(note)).await?;
    // By the visitor's own token, and by nobody else's.
    let page = post.ask(&token, "GET", "/v1/visitors/transcript", None).await?;
    ensure!(page.status == 200 && page.text().contains("&lt;b&gt;good day&lt;/b&gt;"), "{}", page.text());
    ensure!(page.text().contains("@media print") && !page.text().contains("between us"), "{}", page.text());
    let json = json_of(&post.ask(&token, "GET", "/v1/visitors/transcript?format=json", None).await?)?;
    ensure!(json["lines"].as_array().map(Vec::len) == Some(2) && json["lines"][1]["from"] == "The shop", "{json}");
    for wrong in ["", post.owner.as_str(), &format!("{}x", &token[..token.len() - 1])] {
        let refused = post.ask(wrong, "GET", "/v1/visitors/transcript", None).await?;
        ensure!(refused.status == 401, "{} {}", refused.status, refused.text());
    }
    // A server that refuses for good.
    post.server.decide(|_, _| Verdict::Say("550 no such mailbox"));
    let ordered = post.ask(&token, "POST", "/v1/visitors/transcript/mail", Some(json!({}))).await?;
    ensure!(ordered.status == 202, "{} {}", ordered.status, ordered.text());
    let dead = wait::until("it is dead", MAIL_WITHIN, async || {
        let queue = post.done("GET", "/v1/mail/queue", None).await.ok()?;
        queue["emails"].as_array()?.iter().find(|email| email["state"] == "dead").cloned()
    });
    let dead = dead.await?;
    ensure!(dead["why"].as_str().is_some_and(|why| why.contains("550")) && dead["kind"] == "transcript", "{dead}");
    post.server.decide(|_, _| Verdict::Take);
    post.done("POST", &format!("/v1/mail/queue/{session}/{}/retry", dead["number"]), None).await?;
    let taken = post.until_taken("zoe@example.org", 1).await?;
    ensure!(taken[0].text.contains("<b>good day</b>") && !taken[0].text.contains("between us"), "{taken:?}");
    // An agent, to somebody else.
    let to = json!({ "to": "boss@example.com" });
    post.done("POST", &format!("/v1/conversations/{session}/transcript/mail"), Some(to)).await?;
    post.until_taken("boss@example.com", 1).await?;
    // A visitor has it sent nowhere else, and who says nothing but an address has it sent nowhere.
    for to in ["boss@example.com", "a@b.example\r\nBcc: c@d.example"] {
        let body = json!({ "to": to });
        let refused = post.ask(&token, "POST", "/v1/visitors/transcript/mail", Some(body)).await?;
        ensure!(refused.status == 400, "{}", refused.text());
    }
    let (_, strangers, _stranger) = post.visitor("victim@example.com").await?;
    let refused = post.ask(&strangers, "POST", "/v1/visitors/transcript/mail", Some(json!({}))).await?;
    ensure!(refused.status == 409, "{}", refused.text());
    // Not more often than a person needs.
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(post.ask(&token, "POST", "/v1/visitors/transcript/mail", Some(json!({}))).await?.status);
    }
    ensure!(statuses.last() == Some(&429), "{statuses:?}");
    let tested = post.done("POST", "/v1/mail/test", Some(json!({ "to": "olga@example.com" }))).await?;
    ensure!(tested["sent"] == true && post.taken_for("olga@example.com")?.len() == 1, "{tested}");
    visitor.check()
}
