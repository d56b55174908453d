//! Owns the proof of cuts, loss, delay and limits. Does not look at what nodes keep.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use chaos_tests::lab::delay::Delay;
use chaos_tests::lab::net::{CLIENT_PORT, End, Network};
use chaos_tests::lab::shapes;

use crate::rig::{Rig, binary, connect_time, pause, until};
use crate::{alone, is_skipped};

const ACK_WITHIN: Duration = Duration::from_secs(30);

fn needs() -> [Result<(), String>; 2] {
    [Network::available(), binary().map(drop)]
}

#[test]
fn two_networks_at_once_have_their_own_subnets_and_leave_nothing() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::available()]) {
        return Ok(());
    }
    let begun = Instant::now();
    let (one, two) = (Network::new(5)?, Network::new(3)?);
    let made = begun.elapsed();
    ensure!(one.address(End::Node(1)) != two.address(End::Node(1)), "both have {}", one.address(End::Node(1)));
    // Nobody listens: a refusal shows that the packet went there and the answer came back.
    let begun = Instant::now();
    let refused = std::net::TcpStream::connect(one.host_port(5, CLIENT_PORT));
    let is_refused = refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    ensure!(is_refused, "node 5 of the first network is not reached");
    println!("networks of 5 and 3 nodes made in {made:?}; first packet and answer in {:?}", begun.elapsed());
    let begun = Instant::now();
    drop((one, two));
    println!("both removed in {:?}", begun.elapsed());
    Ok(())
}

#[test]
fn a_cut_off_leader_is_replaced_and_comes_back() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&needs()) {
        return Ok(());
    }
    let begun = Instant::now();
    let rig = Rig::started(3)?;
    println!("3 nodes in namespaces whole in {:?}", begun.elapsed());
    let nodes = rig.network.numbers();
    let before = rig.leaders(1)?;
    let victim = before[1].unwrap_or(1);
    let other = if victim == 1 { 2 } else { 1 };
    let (pairs, begun) = (shapes::leader_minority(victim, &nodes), Instant::now());
    rig.network.set_cuts(&pairs)?;
    println!("cut in {:?}: n{victim} leads g1; leaders {before:?}", begun.elapsed());
    until("the others lead every group", Duration::from_secs(30), || {
        let now = rig.leaders(other).ok()?;
        now.iter().all(|leader| leader.is_some_and(|leader| leader != victim)).then_some(())
    })?;
    println!("other leaders of all groups after {:?}", begun.elapsed());
    let others: Vec<u64> = nodes.iter().copied().filter(|&node| node != victim).collect();
    println!("without n{victim}: {:?}", rig.say(&others, ACK_WITHIN)?);
    // A client that comes to the cut off node first, and knows another.
    let asked = Instant::now();
    let found = rig.say(&[victim, other], Duration::from_secs(60)).map(|acked| acked.took);
    println!("a client of n{victim}, then n{other}, after {:?}: {found:?}", asked.elapsed());
    let says = until("it says so", Duration::from_secs(10), || (rig.ready_status(victim) == Some(503)).then_some(()));
    let served = rig.say(&[victim], Duration::from_secs(8)).map(|acked| acked.took);
    match (says, served) {
        (Err(_), Err(error)) => println!("FOUND: n{victim} is cut off and answers 200 to /health/ready, and {error:#}"),
        (says, served) => println!("n{victim}, cut off: says so {says:?}, serves {served:?}"),
    }
    let begun = Instant::now();
    rig.network.heal_all()?;
    let healed = begun.elapsed();
    until("all are ready", Duration::from_secs(60), || nodes.iter().all(|&node| rig.is_ready(node)).then_some(()))?;
    println!("healed in {healed:?}; all ready after {:?}", begun.elapsed());
    rig.wait_whole()?;
    println!("whole after {:?}; {:?}", begun.elapsed(), rig.network.dropped()?);
    ensure!(rig.network.dropped()?.by_cuts > 0, "no packet was dropped: this proved nothing");
    rig.say(&[victim], ACK_WITHIN)?;
    Ok(())
}

#[test]
fn every_shape_of_a_cut_heals() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&needs()) {
        return Ok(());
    }
    let rig = Rig::started(3)?;
    let nodes = rig.network.numbers();
    let shapes = [
        ("halves", shapes::halves(&nodes)),
        ("one way", shapes::one_way(&[1], &[2, 3])),
        ("majorities ring", shapes::majorities_ring(&nodes)),
        ("bridge", shapes::bridge(&nodes)),
        ("isolate", shapes::isolate(3, &nodes)),
        ("all links", shapes::all_links(&nodes)),
        ("clients of n2", shapes::clients_of(2)),
    ];
    for (name, pairs) in shapes {
        let before = rig.network.dropped()?.by_cuts;
        rig.network.set_cuts(&pairs)?;
        pause(Duration::from_secs(2));
        let ready: Vec<Option<u16>> = nodes.iter().map(|&node| rig.ready_status(node)).collect();
        let administered = nodes.iter().filter(|&&node| rig.leaders(node).is_ok()).count();
        let served = rig.say(&nodes, Duration::from_secs(8)).map(|acked| acked.took);
        rig.network.heal_all()?;
        let begun = Instant::now();
        rig.wait_whole()?;
        until("all ready", ACK_WITHIN, || nodes.iter().all(|&node| rig.is_ready(node)).then_some(()))?;
        let healed = begun.elapsed();
        let dropped = rig.network.dropped()?.by_cuts - before;
        println!("{name}: ready {ready:?}, message {served:?}, {dropped} packets dropped, whole again in {healed:?}");
        ensure!(dropped > 0, "{name}: no packet was dropped");
        ensure!(administered == 3, "{name}: only {administered} nodes answered the administrator");
        rig.say(&nodes, ACK_WITHIN)?;
    }
    let flapping = rig.network.flap(&shapes::isolate(2, &nodes), Duration::from_millis(700))?;
    pause(Duration::from_secs(8));
    let turns = flapping.stop()?;
    let begun = Instant::now();
    rig.wait_whole()?;
    println!("flapping: {turns} turns, whole again in {:?}", begun.elapsed());
    rig.say(&nodes, ACK_WITHIN).map(drop)
}

#[test]
fn a_fifth_of_the_packets_lost_is_survived() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&needs()) {
        return Ok(());
    }
    let rig = Rig::started(3)?;
    let nodes = rig.network.numbers();
    let before = rig.say(&nodes, ACK_WITHIN)?.took;
    let begun = Instant::now();
    rig.network.lose(&shapes::all_links(&nodes), 20)?;
    println!("loss of 20 % set in {:?}; a message took {before:?} before", begun.elapsed());
    let mut took = Vec::new();
    for _ in 0..5 {
        took.push(rig.say(&nodes, ACK_WITHIN)?.took);
    }
    let dropped = rig.network.dropped()?;
    rig.network.heal_all()?;
    let begun = Instant::now();
    rig.wait_whole()?;
    println!("messages took {took:?}; {dropped:?}; whole {:?} after the end", begun.elapsed());
    ensure!(dropped.by_loss > 20, "only {} packets were lost: this proved nothing", dropped.by_loss);
    Ok(())
}

#[test]
fn packets_that_come_50_ms_late_are_survived() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::can_delay(), binary().map(drop)]) {
        return Ok(());
    }
    let rig = Rig::started(3)?;
    let nodes = rig.network.numbers();
    let target = rig.network.host_port(2, CLIENT_PORT);
    let (quick, begun) = (connect_time(&target)?, Instant::now());
    let clients = rig.network.delay(&shapes::clients_of(2), Delay::fixed(Duration::from_millis(50)))?;
    let set = begun.elapsed();
    let slow = connect_time(&target)?;
    println!("set in {set:?}: a connection took {quick:?}, now {slow:?}");
    ensure!(slow >= Duration::from_millis(100), "there and back took {slow:?} with 50 ms each");
    ensure!(slow < Duration::from_millis(150), "there and back took {slow:?} with 50 ms each");
    let begun = Instant::now();
    drop(clients);
    println!("undone in {:?}: a connection takes {:?}", begun.elapsed(), connect_time(&target)?);
    let before = rig.say(&nodes, ACK_WITHIN)?.took;
    let between = Delay { fixed: Duration::from_millis(50), jitter: Duration::from_millis(20), reorder: true };
    let peers = rig.network.delay(&shapes::all_links(&nodes), between)?;
    let mut took = Vec::new();
    for _ in 0..5 {
        took.push(rig.say(&nodes, ACK_WITHIN)?.took);
    }
    println!("50 to 70 ms out of order between nodes: messages took {took:?}, {before:?} before");
    ensure!(took.iter().all(|took| *took > Duration::from_millis(90)), "no message waited for a follower");
    let ready: Vec<Option<u16>> = nodes.iter().map(|&node| rig.ready_status(node)).collect();
    println!("ready {ready:?}; the delayer used {:?} s of a core", cpu_s(peers.pid()));
    drop(peers);
    rig.wait_whole()?;
    println!("then {:?}", rig.say(&nodes, ACK_WITHIN)?.took);
    Ok(())
}

/// A round trip that takes longer than a heartbeat: openraft by itself would drop the answer, and no read would find its quorum.
#[test]
fn nodes_far_apart_serve_with_the_default_timings() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::can_delay(), binary().map(drop)]) {
        return Ok(());
    }
    let rig = Rig::started(3)?;
    let nodes = rig.network.numbers();
    for one_way_ms in [50, 100, 150] {
        let peers = rig.network.delay(&shapes::all_links(&nodes), Delay::fixed(Duration::from_millis(one_way_ms)))?;
        let mut took = Vec::new();
        for _ in 0..5 {
            took.push(rig.say(&nodes, ACK_WITHIN)?.took);
        }
        let ready: Vec<Option<u16>> = nodes.iter().map(|&node| rig.ready_status(node)).collect();
        println!("{one_way_ms} ms each way with the default timings: messages took {took:?}; ready {ready:?}");
        drop(peers);
        rig.wait_whole()?;
    }
    println!("without the delay: {:?}", rig.say(&nodes, ACK_WITHIN)?.took);
    Ok(())
}

#[test]
fn a_dead_delayer_lets_packets_pass() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::can_delay()]) {
        return Ok(());
    }
    let network = Network::new(1)?;
    let target = network.host_port(1, CLIENT_PORT);
    let delaying = network.delay(&shapes::clients_of(1), Delay::fixed(Duration::from_millis(200)))?;
    let refused = || {
        let begun = Instant::now();
        std::net::TcpStream::connect(&target).map_or_else(|_| begun.elapsed(), |_| Duration::MAX)
    };
    let slow = refused();
    std::process::Command::new("sh").args(["-c", r#"kill -KILL "$0""#, &delaying.pid().to_string()]).status()?;
    let quick = until("packets pass again", Duration::from_secs(5), || {
        let took = refused();
        (took < Duration::from_millis(50)).then_some(took)
    })?;
    println!("an answer took {slow:?}, and {quick:?} once the delayer was killed");
    ensure!(slow >= Duration::from_millis(400), "there and back took {slow:?} with 200 ms each");
    Ok(())
}

#[test]
fn a_node_of_little_bandwidth_serves() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&needs()) {
        return Ok(());
    }
    let rig = Rig::started(3)?;
    let begun = Instant::now();
    let limited = match rig.network.limit(3, 1_000) {
        Ok(limited) => limited,
        Err(error) => {
            chaos_tests::lab::skipped(&format!("{error:#}"));
            return Ok(());
        }
    };
    println!("limited in {:?}; {:?}", begun.elapsed(), rig.say(&[3], ACK_WITHIN)?);
    // What the page of the demo weighs takes its time.
    let begun = Instant::now();
    let bytes = transfer(&rig.network)?;
    let took = begun.elapsed();
    let rate = bytes as f64 * 8.0 / took.as_secs_f64() / 1000.0;
    println!("{bytes} bytes in {took:?}: {rate:.0} kbit/s of 1000");
    ensure!(rate < 1_300.0, "the limit is not kept: {rate:.0} kbit/s");
    let begun = Instant::now();
    drop(limited);
    println!("undone in {:?}", begun.elapsed());
    Ok(())
}

/// Sends 250 kB from outside to node 3's namespace, and waits until all has arrived there.
fn transfer(network: &Arc<Network>) -> anyhow::Result<usize> {
    use std::io::{Read, Write};
    let script = r#"import socket,sys
s=socket.create_server((sys.argv[1],5000)); print("up",flush=True); c,_=s.accept(); n=0
while True:
    b=c.recv(65536); n+=len(b)
    if not b: break
c.sendall(b"%d"%n)"#;
    let prefix = network.exec_in(End::Node(3));
    let mut command = std::process::Command::new(&prefix[0]);
    command.args(&prefix[1..]).args(["python3", "-c", script, &network.address(End::Node(3)).to_string()]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn()?;
    let mut up = [0; 3];
    child.stdout.as_mut().map_or(Ok(()), |out| out.read_exact(&mut up))?;
    let mut stream = std::net::TcpStream::connect((network.address(End::Node(3)), 5000))?;
    stream.write_all(&vec![7; 250_000])?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut told = String::new();
    stream.read_to_string(&mut told)?;
    child.wait()?;
    Ok(told.parse()?)
}

/// Time of a core that a process has used.
fn cpu_s(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(ticks / 100.0)
}
