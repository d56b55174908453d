//! Owns the tests of webhooks on real nodes, against a receiver that does what such systems do: fail, stall, reset, lead astray.

use super::*;
use base64ct::{Base64, Encoding};
use chaos_tests::receiver::{Answer, Delivery, Receiver};
use ring::hmac;
use std::collections::BTreeMap;
use std::time::Duration;

/// All that these nodes may call is on this machine.
const ALLOW: [&str; 2] = ["--webhook-allow", "127.0.0.0/8"];

async fn set(cluster: &Cluster, name: &str, url: &str, args: &[&str]) -> anyhow::Result<Value> {
    admin(cluster, &[&["webhooks", "set", SITE, name, "--url", url], args].concat()).await
}

async fn show(cluster: &Cluster, name: &str) -> anyhow::Result<Value> {
    admin(cluster, &["webhooks", "show", SITE, name]).await
}

/// Session and seq of a delivery.
fn place(delivery: &Delivery) -> anyhow::Result<(String, u64)> {
    let event = &delivery.body["event"];
    let (session, seq) = (event["session"].as_str().context("no session")?, event["seq"].as_u64().context("no seq")?);
    ensure!(delivery.id == format!("{session}-{seq}") && delivery.body["id"] == delivery.id.as_str(), "{delivery:?}");
    Ok((session.to_owned(), seq))
}

/// The last seq of each session that was taken. Each was taken first behind the one before it.
fn taken(receiver: &Receiver) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut last = BTreeMap::new();
    for delivery in receiver.deliveries() {
        let (session, seq) = place(&delivery)?;
        let known = last.entry(session).or_insert(0);
        ensure!(seq <= *known + 1, "{} came before {}", delivery.id, *known + 1);
        if delivery.taken {
            *known = seq.max(*known);
        }
    }
    Ok(last)
}

/// Whether one of the signatures is right.
fn is_signed(delivery: &Delivery, secret: &str) -> anyhow::Result<bool> {
    let secret = secret.strip_prefix("whsec_").context("not a secret")?;
    let key = hmac::Key::new(
        hmac::HMAC_SHA256,
        &Base64::decode_vec(secret).map_err(|error| anyhow::anyhow!(error.to_string()))?,
    );
    let signed = format!("{}.{}.{}", delivery.id, delivery.timestamp, delivery.text);
    let right = format!("v1,{}", Base64::encode_string(hmac::sign(&key, signed.as_bytes()).as_ref()));
    Ok(delivery.signature.split(' ').any(|signature| signature == right))
}

async fn heads(visitors: &[(proto::client::http::VisitorCreated, Person)]) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut heads = BTreeMap::new();
    for (new, visitor) in visitors {
        let page = visitor.client.history(new.session, proto::client::HistoryFrom::Latest, Some(1)).await?;
        heads.insert(new.session.to_string(), page.head);
    }
    Ok(heads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_fails_stalls_and_resets_hears_every_event_in_order_while_leaders_die() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_with(3, &ALLOW).await?;
    let agents = people(&cluster, ["ann"]).await?;
    let mut visitors = Vec::new();
    for at in 0..4 {
        visitors.push(Person::visitor(&cluster, at).await?);
    }
    let receiver = Receiver::start("127.0.0.1").await?;
    let made = set(&cluster, "crm", &receiver.url(), &[]).await?;
    let secret = made["secret"].as_str().context("no secret")?.to_owned();
    ensure!(made["begun"] == true, "{made}");
    for round in 0..3 {
        // Three in eight go wrong, each in its way; a stall is longer than anybody waits.
        receiver.answer(|_, at| match (at * 7 + at / 5) % 16 {
            0..=2 => Answer::Status(500, String::new()),
            3 => Answer::Status(429, "retry-after: 1\r\n".into()),
            4 => Answer::Reset,
            5 if at % 3 == 0 => Answer::Stall(Duration::from_secs(60)),
            _ => Answer::Take,
        });
        for n in 0..10 {
            for (new, visitor) in &visitors {
                visitor.client.send(new.session, format!("{round}: {n}")).await?;
            }
        }
        let before = receiver.deliveries().len();
        let came = wait::until("some are delivered", wait_within(), async || {
            (receiver.deliveries().len() > before + 5).then_some(())
        });
        came.await?;
        let victim = leader(&cluster, Target::Session(visitors[round].0.session)).await?;
        cluster.kill(victim);
        for (new, visitor) in &visitors {
            visitor.client.send(new.session, "still here").await?;
        }
        cluster.restart(&[victim]).await?;
    }
    receiver.answer(|_, _| Answer::Take);
    for (new, visitor) in &visitors {
        visitor.client.close(new.session).await?;
    }
    is_empty(&cluster).await?;
    let heads = heads(&visitors).await?;
    let all = wait::until("all was delivered", wait_within() * 6, async || {
        taken(&receiver).is_ok_and(|taken| taken == heads).then_some(())
    });
    all.await.with_context(|| format!("{heads:?}: {:?}", taken(&receiver)))?;
    for delivery in receiver.deliveries() {
        ensure!(is_signed(&delivery, &secret)?, "{delivery:?}");
        ensure!(
            delivery.body["site"] == SITE && delivery.body["type"] == delivery.body["event"]["kind"],
            "{delivery:?}"
        );
    }
    let done = wait::until("nothing waits", wait_within(), async || {
        let view = show(&cluster, "crm").await.ok()?;
        (view["behind"] == 0 && view["lags_total"] == 0 && view["dead"] == 0 && view["missed"] == 0).then_some(())
    });
    done.await?;
    agents[0].1.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_told_and_delivered_after_all_and_secrets_rotate() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(1, &ALLOW).await?;
    let agents = people(&cluster, ["ann"]).await?;
    let (new, visitor) = Person::visitor(&cluster, 0).await?;
    let receiver = Receiver::start("127.0.0.1").await?;
    receiver.answer(|delivery, _| match delivery.body["event"]["text"] == "poison" {
        true => Answer::Status(422, String::new()),
        false => Answer::Take,
    });
    let first = set(&cluster, "crm", &receiver.url(), &["--kinds", "message", "--give-up-s", "2"]).await?;
    visitor.client.send(new.session, "one").await?;
    visitor.client.send(new.session, "poison").await?;
    visitor.client.send(new.session, "three").await?;
    let dead = wait::until("it is given up", wait_within(), async || {
        let letters = admin(&cluster, &["webhooks", "dead", SITE, "crm"]).await.ok()?["letters"].take();
        (letters.as_array()?.len() == 1).then_some(letters)
    });
    let letter = dead.await?[0].take();
    ensure!(letter["why"] == "status 422" && letter["session"] == new.session.to_string(), "{letter}");
    let texts = || {
        let taken = receiver.deliveries().into_iter().filter(|delivery| delivery.taken);
        taken.map(|delivery| delivery.body["event"]["text"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let passed = async || (texts() == ["one", "three"]).then_some(());
    wait::until("the next one has passed it", wait_within(), passed).await.with_context(|| format!("{:?}", texts()))?;

    let rotated = admin(&cluster, &["webhooks", "rotate", SITE, "crm"]).await?;
    receiver.answer(|_, _| Answer::Take);
    let letter = letter["letter"].as_str().context("no letter")?.to_owned();
    admin_done(&cluster, &["webhooks", "replay", SITE, "crm", "--letter", &letter]).await?;
    let replayed = async || (texts() == ["one", "three", "poison"]).then_some(());
    wait::until("it is delivered", wait_within(), replayed).await.with_context(|| format!("{:?}", texts()))?;
    let last = receiver.deliveries().pop().context("nothing came")?;
    for secret in [&first["secret"], &rotated["secret"]] {
        ensure!(is_signed(&last, secret.as_str().context("no secret")?)?, "{last:?}");
    }
    let gone = wait::until("the letter is gone", wait_within(), async || {
        (show(&cluster, "crm").await.ok()?["dead"] == 0).then_some(())
    });
    gone.await?;

    // Off, it keeps what happens; on again, it tells of it.
    set(&cluster, "crm", &receiver.url(), &["--kinds", "message", "--on", "false"]).await?;
    visitor.client.send(new.session, "while it was off").await?;
    visitor.client.send(new.session, "and more").await?;
    let seen = receiver.deliveries().len();
    let again = set(&cluster, "crm", &receiver.url(), &["--kinds", "message"]).await?;
    ensure!(again["secret"].is_null(), "a secret is told once: {again}");
    let all = async || (texts().ends_with(&["while it was off".into(), "and more".into()])).then_some(());
    wait::until("what happened meanwhile is delivered", wait_within(), all).await?;
    ensure!(receiver.deliveries().len() == seen + 2);
    admin_done(&cluster, &["webhooks", "remove", SITE, "crm"]).await?;
    visitor.client.send(new.session, "nobody hears").await?;
    let refused = show(&cluster, "crm").await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("no such webhook")));
    agents[0].1.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_reaches_nothing_within_unless_the_operator_allows_it() -> anyhow::Result<()> {
    // One address of this machine stands for the internet, the others for what is within.
    let cluster = Cluster::start_with(1, &["--webhook-allow", "127.0.0.2/32"]).await?;
    let inside = Receiver::start("127.0.0.1").await?;
    let port = inside.address.port();
    for url in [
        inside.url(),
        format!("http://127.1:{port}/"),
        format!("http://0x7f000001:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[::1]:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::ffff:169.254.169.254]/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        format!("http://user@127.0.0.2:{port}/"),
        "file:///etc/passwd".to_owned(),
    ] {
        let refused = set(&cluster, "crm", &url, &[]).await;
        ensure!(refused.as_ref().is_err_and(|error| error.to_string().contains("url: ")), "{url}: {refused:?}");
    }
    // What only a resolver or a receiver can tell is found out when it is called.
    let outside = Receiver::start("127.0.0.2").await?;
    let target = format!("location: {}\r\n", inside.url());
    let other = "location: http://169.254.169.254/\r\n".to_owned();
    outside.answer(move |_, at| Answer::Status(307, if at % 2 == 0 { target.clone() } else { other.clone() }));
    set(&cluster, "named", &format!("http://localhost:{port}/"), &[]).await?;
    set(&cluster, "leads", &outside.url(), &[]).await?;
    let (new, visitor) = Person::visitor(&cluster, 0).await?;
    visitor.client.send(new.session, "hello").await?;
    for name in ["named", "leads"] {
        let why = wait::until("it failed twice", wait_within(), async || {
            let view = show(&cluster, name).await.ok()?;
            let lag = view["lags"].get(0)?;
            (lag["tries"].as_u64()? >= 2).then_some(lag["why"].as_str()?.to_owned())
        });
        let why = why.await?;
        ensure!(why.contains("not on the internet"), "{name}: {why}");
    }
    ensure!(inside.connections() == 0, "somebody came in");
    ensure!(outside.connections() > 0 && outside.deliveries().len() >= 2);
    Ok(())
}
