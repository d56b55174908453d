//! Owns the proofs that the page says what the run was: figures by hand, hostile text, size, runs with nothing in them.

use super::gaps::{Gap, Gaps, Impact};
use super::html::{Html, count, length, moment};
use super::leaders::{Leaders, Led};
use super::run::PartKind;
use super::sample::{self, Sample};
use super::series::{Series, Spread};
use super::{Outcome, PAGE_BYTES_MAX, ReportInput, Run, RunReader, ShardOf, Verdict, Violation, render};

const MS: u64 = 1_000;
const S: u64 = 1_000_000;
const HOSTILE: &str = "</script><script>alert('1')</script>\" onmouseover=\"alert(2)&\u{1b}[31m\u{0}";

/// A run written down send by send. All sends are of one session unless said otherwise.
#[derive(Default)]
struct Talk {
    lines: Vec<(u64, String)>,
    ops: u64,
}

impl Talk {
    fn put(&mut self, t: u64, rest: &str) {
        self.lines.push((t, format!(r#"{{"t":{t},{rest}}}"#)));
    }

    fn invoke(&mut self, t: u64, session: &str) -> u64 {
        self.ops += 1;
        let op = self.ops;
        let what = format!(r#"{{"send":{{"session":"{session}","device":"d","n":{op},"text":"x"}}}}"#);
        self.put(t, &format!(r#""k":"invoke","op":{op},"client":1,"what":{what}"#));
        op
    }

    fn acked(&mut self, session: &str, t: u64, until: u64) {
        let op = self.invoke(t, session);
        self.put(until, &format!(r#""k":"ok","op":{op},"result":{{"seq":{op},"ts":1,"dup":false}}"#));
    }

    fn unknown(&mut self, session: &str, t: u64, until: u64) {
        let op = self.invoke(t, session);
        self.put(until, &format!(r#""k":"unknown","op":{op},"why":"timeout""#));
    }

    fn refused(&mut self, session: &str, t: u64, until: u64) {
        let op = self.invoke(t, session);
        self.put(until, &format!(r#""k":"fail","op":{op},"code":"forbidden""#));
    }

    fn fault(&mut self, id: u64, t: u64, until: u64) {
        self.put(t, &format!(r#""k":"fault","fault":{id},"kind":"kill","nodes":[1],"note":"""#));
        self.put(until, &format!(r#""k":"healed","fault":{id}"#));
    }

    fn leader(&mut self, t: u64, shard: u64, node: &str, epoch: u64) {
        self.put(t, &format!(r#""k":"leader","shard":{shard},"node":{node},"epoch":{epoch}"#));
    }

    fn run(mut self, end: u64) -> Run {
        self.put(end, r#""k":"ready","since":5"#);
        self.lines.sort_by_key(|(t, _)| *t);
        read(self.lines.iter().map(|(_, line)| line.as_str()), None)
    }
}

fn read<'a>(lines: impl Iterator<Item = &'a str>, shard_of: Option<ShardOf>) -> Run {
    let mut reader = RunReader::new(shard_of);
    lines.for_each(|line| reader.line(line));
    reader.finish()
}

fn page(run: &Run, outcome: Outcome, verdicts: &[Verdict]) -> String {
    let page = render(&ReportInput { run, outcome, reasons: &[], verdicts, command: "make chaos SEED=7 MINUTES=1" });
    assert_well_formed(&page);
    page
}

/// Every tag is closed in order, and nothing is loaded from anywhere.
fn assert_well_formed(page: &str) {
    for outside in ["http:", "https:", "src=", "@import", "url(", "<link"] {
        assert!(!page.contains(outside), "the page mentions {outside}");
    }
    let body = &page[page.find("<body").unwrap()..page.rfind("<script>").unwrap()];
    let mut open = Vec::new();
    for tag in body.split('<').skip(1) {
        let (inner, _) = tag.split_once('>').unwrap_or_else(|| panic!("no end of <{tag}"));
        let name = inner.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match inner {
            _ if inner.starts_with('/') => assert_eq!(open.pop(), Some(name), "before {}", &tag[..tag.len().min(80)]),
            _ if inner.ends_with('/') || name == "hr" => {}
            _ => open.push(name),
        }
    }
    assert_eq!(open, ["body"]);
}

fn gap(from_us: u64, to_us: u64) -> Gap {
    Gap { from_us, to_us, part: Some(0) }
}

#[test]
fn foreign_text_is_escaped_wherever_it_stands() {
    let text = serde_json::to_string(HOSTILE).unwrap();
    let mut talk = Talk::default();
    talk.put(0, &format!(r#""k":"run","seed":{text},"nodes":[1],"shards":1,"sessions":1,"kind":{text}"#));
    talk.put(1, &format!(r#""k":"fault","fault":1,"kind":{text},"nodes":[1],"note":{text}"#));
    for (op, end) in [(91, format!(r#""k":"fail","code":{text}"#)), (92, format!(r#""k":"unknown","why":{text}"#))] {
        let what = format!(r#"{{{text}:{{"session":{text}}}}}"#);
        talk.put(2, &format!(r#""k":"invoke","op":{op},"client":1,"what":{what}"#));
        talk.put(3, &format!(r#"{end},"op":{op}"#));
    }
    let what = format!(r#"{{"send":{{"session":{text},"device":{text},"n":1,"text":{text}}}}}"#);
    talk.put(4, &format!(r#""k":"invoke","op":93,"client":1,"what":{what}"#));
    talk.put(4 + 2 * S, r#""k":"ok","op":93"#);
    let run = talk.run(10 * S);
    assert_eq!(run.unreadable, 0);
    let hostile = || HOSTILE.to_owned();
    let violation = Violation { session: hostile(), text: hostile(), excerpt: vec![hostile()] };
    let verdicts = [Verdict { name: hostile(), checked: 1, violations: vec![violation] }];
    let reasons = [hostile()];
    let input =
        ReportInput { run: &run, outcome: Outcome::Fail, reasons: &reasons, verdicts: &verdicts, command: HOSTILE };
    let page = render(&input);
    assert_well_formed(&page);
    assert!(!page.contains("<script>alert"));
    assert!(!page.contains("\" onmouseover"));
    assert!(!page.contains(['\u{1b}', '\u{0}']));
    // Outcome, title, command, fault, tables, violation: it is there, only as text.
    assert!(page.matches("&lt;script&gt;alert(&#39;1&#39;)").count() >= 10);
    assert_eq!(page.matches("</script>").count(), 2, "the data and the script, nothing else");
}

#[test]
fn text_is_cut_by_what_escaping_makes_of_it() {
    assert_eq!(Html::within("a<b", 100).to_string(), "a&lt;b");
    assert_eq!(Html::within("&&&&", 11).to_string(), "&amp;&amp;…");
    assert_eq!(Html::text("it's \"x\"").to_string(), "it&#39;s &quot;x&quot;");
}

#[test]
fn numbers_are_written_for_people() {
    assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    let lengths = [0, 640, 2_120, 52_900, 124_000, 2_470_000, 125 * S, 3_720 * S].map(length);
    assert_eq!(lengths, ["0", "640 µs", "2.12 ms", "52.9 ms", "124 ms", "2.47 s", "2 min 05 s", "1 h 02 min"]);
    assert_eq!(moment(201 * S + 460 * MS), "03:21.4");
}

#[test]
fn percentiles_are_the_nearest_rank() {
    assert_eq!(Spread::of((1..=100).rev().collect()), Some(Spread { p50: 50, p99: 99, max: 100 }));
    assert_eq!(Spread::of((1..=200).collect()), Some(Spread { p50: 100, p99: 198, max: 200 }));
    assert_eq!(Spread::of(vec![7]), Some(Spread { p50: 7, p99: 7, max: 7 }));
    assert_eq!(Spread::of(vec![9, 1, 5]), Some(Spread { p50: 5, p99: 9, max: 9 }));
    assert_eq!(Spread::of(Vec::new()), None);
}

#[test]
fn sends_count_in_the_second_of_their_answer() {
    let mut talk = Talk::default();
    talk.acked("a", 100 * MS, 102 * MS);
    talk.acked("a", 200 * MS, 203 * MS);
    talk.acked("a", 900 * MS, S + 400 * MS);
    talk.refused("a", S + 100 * MS, S + 200 * MS);
    talk.unknown("a", S + 500 * MS, 3 * S + 1);
    talk.invoke(4 * S, "a");
    let run = talk.run(4 * S + 1);
    let series = Series::of(&run);
    assert_eq!(series.width_us, S);
    let of = |point: &super::series::Point| (point.acked, point.failed, point.unknown);
    let counts: Vec<(u64, u64, u64)> = series.points.iter().map(of).collect();
    assert_eq!(counts, [(2, 0, 0), (1, 1, 0), (0, 0, 0), (0, 0, 1), (0, 0, 1)]);
    assert_eq!(series.points[0].latency_us, Some(Spread { p50: 2 * MS, p99: 3 * MS, max: 3 * MS }));
    assert_eq!(series.points[1].latency_us.map(|spread| spread.p50), Some(500 * MS));
    assert_eq!(series.points[2].latency_us, None);
    assert!(page(&run, Outcome::Pass, &[]).contains(r#""acked":[2,1,0,0,0]"#));
}

#[test]
fn a_long_run_has_wider_intervals_and_the_same_rate() {
    let mut talk = Talk::default();
    (0..100).for_each(|at| talk.acked("a", at * 100 * MS, at * 100 * MS + MS));
    let series = Series::of(&talk.run(3_600 * S));
    assert_eq!((series.width_us, series.points.len()), (5 * S, 721));
    assert_eq!(series.points[0].acked, 50);
    assert!((series.per_second(series.points[0].acked) - 10.0).abs() < 1e-9);
}

#[test]
fn a_repeated_send_is_one_message() {
    let mut talk = Talk::default();
    for (op, n, t) in [(1, 5, 10), (2, 5, 20), (3, 6, 30)] {
        let what = format!(r#"{{"send":{{"session":"a","device":"d","n":{n},"text":"x"}}}}"#);
        talk.put(t, &format!(r#""k":"invoke","op":{op},"client":1,"what":{what}"#));
        talk.put(t + 5, &format!(r#""k":"ok","op":{op}"#));
    }
    let run = talk.run(S);
    assert_eq!((run.messages, Series::of(&run).points[0].acked), (2, 3));
}

#[test]
fn a_silence_lasts_from_ack_to_ack_while_sends_wait() {
    let mut talk = Talk::default();
    talk.acked("a", 1_000 * MS, 1_005 * MS);
    // Waits from 2.0 s; a second send waits too and is answered later than the first.
    talk.acked("a", 2_000 * MS, 3_500 * MS);
    talk.acked("a", 2_500 * MS, 3_900 * MS);
    assert_eq!(Gaps::of(&talk.run(5 * S)).parts, [gap(2_000 * MS, 3_500 * MS), gap(3_500 * MS, 3_900 * MS)]);
}

#[test]
fn a_send_given_up_and_tried_again_at_once_is_one_silence() {
    let mut talk = Talk::default();
    talk.unknown("a", S, 3 * S);
    talk.acked("a", 3_800 * MS, 4_200 * MS);
    assert_eq!(Gaps::of(&talk.run(9 * S)).parts, [gap(S, 4_200 * MS)]);

    let mut late = Talk::default();
    late.unknown("a", S, 3 * S);
    late.acked("a", 6 * S, 6_500 * MS);
    assert_eq!(Gaps::of(&late.run(9 * S)).parts, [gap(S, 3 * S), gap(6 * S, 6_500 * MS)]);
}

#[test]
fn a_lost_answer_is_no_silence_once_others_are_served() {
    let mut talk = Talk::default();
    talk.unknown("a", S, 6 * S);
    for at in [1_100, 1_400, 1_700, 2_500] {
        talk.acked("a", at * MS, (at + 2) * MS);
    }
    assert_eq!(Gaps::of(&talk.run(9 * S)).parts, [gap(S, 1_102 * MS)]);
}

#[test]
fn a_send_without_an_end_waits_for_ten_seconds() {
    let mut talk = Talk::default();
    talk.invoke(S, "a");
    assert_eq!(Gaps::of(&talk.run(60 * S)).parts, [gap(S, 11 * S)]);

    let mut short = Talk::default();
    short.invoke(S, "a");
    assert_eq!(Gaps::of(&short.run(4 * S)).parts, [gap(S, 4 * S)]);
}

#[test]
fn parts_are_silent_each_for_itself() {
    let lines = |talk: &Talk| talk.lines.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>();
    let mut talk = Talk::default();
    talk.put(0, r#""k":"run","seed":7,"nodes":[1],"shards":6,"sessions":3,"kind":"sim""#);
    talk.acked("s-1", S, 3 * S);
    talk.acked("s-7", 2 * S, 2 * S + 5 * MS);
    talk.acked("s-2", 2_500 * MS, 2_500 * MS + 5 * MS);
    talk.put(9 * S, r#""k":"ready""#);
    talk.lines.sort_by_key(|(t, _)| *t);
    let by_session = read(lines(&talk).iter().map(String::as_str), None);
    assert_eq!(by_session.part_kind, PartKind::Session);
    assert_eq!(Gaps::of(&by_session).parts, [gap(S, 3 * S)]);
    // Sessions 1 and 7 share a shard of six: what 7 got breaks the silence of 1.
    let by_shard = read(lines(&talk).iter().map(String::as_str), Some(sample::shard_of));
    assert_eq!(by_shard.parts, ["1", "2"]);
    assert_eq!(Gaps::of(&by_shard).parts, [gap(S, 2 * S + 5 * MS), gap(2 * S + 5 * MS, 3 * S)]);
    let whole: Vec<u64> = Gaps::of(&by_shard).whole.iter().map(Gap::length_us).collect();
    assert_eq!(whole, [1_005 * MS, 500 * MS, 495 * MS]);
}

#[test]
fn the_gap_of_a_fault_is_cut_to_its_window() {
    let mut talk = Talk::default();
    talk.fault(1, 10 * S, 12 * S);
    talk.fault(2, 40 * S, 41 * S);
    talk.fault(3, 100 * S, 101 * S);
    // Began a second before the fault.
    talk.acked("a", 9 * S, 13 * S);
    // Ended three seconds past the window, which is fault, heal and 5 s.
    talk.acked("a", 44 * S, 49 * S);
    talk.acked("a", 70 * S, 70 * S + 300 * MS);
    let run = talk.run(120 * S);
    let gaps = Gaps::of(&run);
    let impact = |us| Some(Impact { part_us: us, whole_us: us });
    assert_eq!(gaps.impacts, [impact(3 * S), impact(2 * S), None]);
    assert_eq!(gaps.without_fault(&run), Impact { part_us: 300 * MS, whole_us: 300 * MS });
    let page = page(&run, Outcome::Pass, &[]);
    let row = "<tr><th scope=\"row\">kill</th><td class=\"num\">3</td><td class=\"num\">2</td>\
               <td class=\"num\">2.00 s</td><td class=\"num\">3.00 s</td><td class=\"num\">3.00 s</td>";
    assert!(page.contains(row));
}

#[test]
fn leaders_are_strips_up_to_the_end() {
    let mut talk = Talk::default();
    talk.leader(S, 3, "1", 1);
    talk.leader(4 * S, 3, "null", 1);
    talk.leader(5 * S, 3, "2", 2);
    talk.leader(6 * S, 3, "2", 2);
    let run = talk.run(10 * S);
    let leaders = Leaders::of(&run);
    let strips: Vec<_> = leaders.shards[&3].iter().map(|strip| (strip.from_us, strip.to_us, strip.node)).collect();
    assert_eq!(strips, [(S, 4 * S, Some(1)), (4 * S, 5 * S, None), (5 * S, 10 * S, Some(2))]);
    assert_eq!(Leaders::led(&leaders.shards[&3]), Led { changes: 1, without_us: S, without_us_max: S });
    assert_eq!(leaders.drawable().merged_below_us, 0);
}

#[test]
fn an_empty_run_has_a_page() {
    let run = Run::read(&b""[..], None).unwrap();
    let page = page(&run, Outcome::Invalid, &[]);
    assert!(
        page.contains("INVALID") && page.contains("The run recorded nothing.") && page.contains("No check was made.")
    );
}

#[test]
fn a_run_without_faults_or_sends_has_a_page() {
    let mut talk = Talk::default();
    talk.put(0, r#""k":"run","seed":7,"nodes":[1,2],"shards":2,"sessions":3,"kind":"sim""#);
    let page = page(&talk.run(5 * S), Outcome::Pass, &[]);
    assert!(page.contains("Simulation, seed 7") && page.contains("No fault was made."));
}

#[test]
fn lines_that_make_no_sense_are_counted() {
    let mut talk = Talk::default();
    talk.fault(1, S, 2 * S);
    talk.acked("a", S, 2 * S);
    let good: Vec<String> = talk.lines.into_iter().map(|(_, line)| line).collect();
    let bad = [
        "{",
        "[]",
        "not json",
        r#"{"t":-1,"k":"ok"}"#,
        r#"{"t":18446744073709551615,"k":"ok"}"#,
        r#"{"t":3,"k":"invoke"}"#,
    ];
    let run = read(good.iter().map(String::as_str).chain(bad).chain(["", r#"{"t":9,"k":"later"}"#]), None);
    assert_eq!((run.lines, run.unreadable, run.messages), (11, 6, 1));
    assert!(page(&run, Outcome::Pass, &[]).contains("6 of them could not be read"));
}

#[test]
fn half_an_hour_of_half_a_million_messages_stays_below_the_limit() {
    let sample = Sample { minutes: 30, faults: 110, sends_per_second: 285, ..Sample::default() };
    let lines = sample.history();
    for shard_of in [None, Some(sample::shard_of as ShardOf)] {
        let run = read(lines.iter().map(String::as_str), shard_of);
        assert!(run.messages > 500_000);
        let page = page(&run, Outcome::Fail, &sample.verdicts(400));
        assert!(page.len() < PAGE_BYTES_MAX / 2 + (160 << 10), "{} bytes", page.len());
    }
}

#[test]
fn a_monstrous_run_stays_below_the_limit() {
    let long = "&\"".repeat(1_000);
    let text = serde_json::to_string(&long).unwrap();
    let mut talk = Talk::default();
    for id in 0..3_000 {
        let at = id * 700 * MS;
        talk.put(at, &format!(r#""k":"fault","fault":{id},"kind":"{id} &&&&","nodes":[{id}],"note":{text}"#));
        for shard in 0..80 {
            talk.leader(at + shard, shard, &(id % 3 + 1).to_string(), id);
        }
        talk.unknown(&format!("&&&{id}"), at, at + 900 * MS);
        talk.acked(&format!("&&&&{id}"), at, at + (100 + id % 900) * MS);
        let what = format!(r#"{{"&&&&{id}":{{}}}}"#);
        talk.put(at, &format!(r#""k":"invoke","op":{},"client":1,"what":{what}"#, 1_000_000 + id));
        talk.put(at, &format!(r#""k":"fail","op":{},"code":"{id}&&&&""#, 1_000_000 + id));
        talk.put(at, &format!(r#""k":"connected","client":1,"socket":1,"node":{id}"#));
    }
    let violation = Violation { session: long.clone(), text: long.clone(), excerpt: vec![long[..900].to_owned(); 100] };
    let verdict = Verdict { name: long.clone(), checked: 1, violations: vec![violation; 3] };
    let run = talk.run(2_100 * S);
    let (verdicts, reasons) = (vec![verdict; 150], vec![long.clone(); 100]);
    let input =
        ReportInput { run: &run, outcome: Outcome::Fail, reasons: &reasons, verdicts: &verdicts, command: &long };
    let page = render(&input);
    assert_well_formed(&page);
    assert!(page.len() < PAGE_BYTES_MAX, "{} bytes", page.len());
    assert!(page.contains("more are not shown here."));
}
