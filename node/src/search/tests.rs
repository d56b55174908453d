//! Tests of one index: what is found in it, what leaves it, and what is left after a crash.

use super::collect::Candidate;
use super::index::{Index, IndexError, Progress, Search, Writer};
use super::query::Wanted;
use super::schema::Said;
use proto::ids::{SessionId, SiteId};
use proto::search::{SaidBy, SearchPlace};
use std::path::Path;

pub(super) const SITE: SiteId = SiteId(1);
const OTHER: SiteId = SiteId(17);
const OF: &str = "cluster/g1/r1";
const DONE: Progress = Progress::Feed { after: 9, again: 0 };

fn said(site: SiteId, session: u128, seq: u64, text: &str) -> Said<'_> {
    let place = SearchPlace { ts_ms: 1_000 * seq, session: SessionId(session << 100), seq };
    Said { site, place, text_seq: seq, by: SaidBy::Visitor, text: text.into() }
}

fn search<'a>(wanted: Option<&'a Wanted>, site: SiteId) -> Search<'a> {
    Search { site, wanted, by: None, from_ms: None, to_ms: None, after: None, limit: 100 }
}

/// Seqs of what is found, the newest first.
pub(super) fn found(index: &Index, site: SiteId, text: &str) -> Vec<u64> {
    let wanted = Wanted::read(text).unwrap();
    index.search(&search(wanted.as_ref(), site)).unwrap().iter().map(|found| found.place.seq).collect()
}

fn commit(index: &Index, writer: &mut Writer, progress: Progress) {
    writer.commit(progress).unwrap();
    index.reload().unwrap();
}

fn index_of(dir: &Path, all: &[Said<'_>]) -> (Index, Writer) {
    let (index, progress) = Index::open(dir, OF).unwrap();
    assert_eq!(progress, None);
    let mut writer = index.writer().unwrap();
    all.iter().for_each(|said| writer.put(said, false).unwrap());
    commit(&index, &mut writer, DONE);
    (index, writer)
}

#[test]
fn a_site_finds_what_was_said_there_and_never_what_another_said() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        said(SITE, 1, 1, "我想申请退款，订单号是Ａ１２３"),
        said(SITE, 1, 2, "Your refunds were sent on Monday"),
        said(SITE, 2, 3, "退款已经申请了, refund done"),
        said(OTHER, 3, 4, "退款 refund secret"),
    ];
    let (index, _writer) = index_of(dir.path(), &all);
    for (text, seqs) in [
        ("退款", vec![3, 1]),
        ("申请退款", vec![3, 1]),
        ("\"申请退款\"", vec![1]),
        ("refund", vec![3, 2]),
        ("REFUNDED 退", vec![3]),
        ("\"were sent\"", vec![2]),
        ("\"sent were\"", vec![]),
        ("a123", vec![1]),
        ("订单号", vec![1]),
        ("secret", vec![]),
        ("nothing", vec![]),
        ("", vec![3, 2, 1]),
    ] {
        assert_eq!(found(&index, SITE, text), seqs, "{text}");
    }
    assert_eq!(found(&index, OTHER, "退款"), [4]);
    // A word that looks like another site's is none.
    assert_eq!(found(&index, SiteId(1), "11:secret"), [0; 0]);
    assert_eq!(found(&index, SiteId(2), ""), [0; 0]);
    assert_eq!(index.documents(), 4);
}

#[test]
fn who_said_it_and_when_narrow_a_search() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<Said<'_>> = [SaidBy::Visitor, SaidBy::Agent, SaidBy::System, SaidBy::Note]
        .into_iter()
        .zip(1..)
        .map(|(by, seq)| Said { by, ..said(SITE, 1, seq, "hello") })
        .collect();
    let (index, _writer) = index_of(dir.path(), &all);
    let wanted = Wanted::read("hello").unwrap();
    let seqs = |narrow: Search<'_>| -> Vec<(u64, SaidBy)> {
        index.search(&narrow).unwrap().iter().map(|found| (found.place.seq, found.by)).collect()
    };
    let base = || search(wanted.as_ref(), SITE);
    assert_eq!(seqs(Search { by: Some(SaidBy::Note), ..base() }), [(4, SaidBy::Note)]);
    let from = Search { from_ms: Some(2_000), to_ms: Some(3_000), ..base() };
    assert_eq!(seqs(from), [(2, SaidBy::Agent)], "from counts, to does not");
    assert_eq!(seqs(Search { to_ms: Some(0), ..base() }), []);
    assert_eq!(seqs(Search { from_ms: Some(u64::MAX), ..base() }), []);
    assert_eq!(seqs(Search { to_ms: Some(u64::MAX), limit: 1, ..base() }), [(4, SaidBy::Note)]);
}

#[test]
fn pages_hold_everything_once_from_the_newest_to_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut writer) = index_of(dir.path(), &[]);
    // Many in one millisecond, as an import writes them, over several segments.
    let mut all: Vec<SearchPlace> = (0..900_u64)
        .map(|n| SearchPlace { ts_ms: 10 + n / 300, session: SessionId(u128::from(n % 3) << 100), seq: n })
        .collect();
    for part in all.chunks(250) {
        for place in part {
            writer
                .put(&Said { site: SITE, place: *place, text_seq: 1, by: SaidBy::Agent, text: "x".into() }, false)
                .unwrap();
        }
        commit(&index, &mut writer, DONE);
    }
    let wanted = Wanted::read("x").unwrap();
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page: Vec<Candidate> = index.search(&Search { after, limit: 7, ..search(wanted.as_ref(), SITE) }).unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(last.place);
        read.extend(page.iter().map(|found| found.place));
    }
    all.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(read, all);
}

#[test]
fn what_was_edited_recalled_or_erased_is_not_found_and_leaves_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        said(SITE, 1, 1, "firstdraft"),
        said(SITE, 1, 2, "recalledsecret"),
        said(SITE, 2, 3, "erasedvisitor"),
        said(SITE, 3, 4, "bystander"),
    ];
    let (index, mut writer) = index_of(dir.path(), &all);
    writer.put(&Said { text_seq: 5, text: "secondversion".into(), ..said(SITE, 1, 1, "") }, true).unwrap();
    writer.remove(SessionId(1 << 100), 2);
    writer.remove_session(SessionId(2 << 100));
    commit(&index, &mut writer, DONE);
    for (word, seqs) in [
        ("firstdraft", vec![]),
        ("secondversion", vec![1]),
        ("recalledsecret", vec![]),
        ("erasedvisitor", vec![]),
        ("bystander", vec![4]),
    ] {
        assert_eq!(found(&index, SITE, word), seqs, "{word}");
    }
    assert!(index.holds(SITE, "recalledsecret"), "a removed text is still in the file of its segment");
    let segments = index.segments_to_purge().unwrap();
    assert!(!segments.is_empty());
    writer.purge(&segments).unwrap();
    index.reload().unwrap();
    for word in ["firstdraft", "recalledsecret", "erasedvisitor"] {
        assert!(!index.holds(SITE, word), "{word}");
    }
    assert!(index.holds(SITE, "secondversion") && index.holds(SITE, "bystander"));
    assert!(index.segments_to_purge().unwrap().is_empty());
    // The old files are gone as well.
    let left = std::fs::read_dir(dir.path()).unwrap().flatten().filter(|file| {
        let bytes = std::fs::read(file.path()).unwrap();
        bytes.windows(14).any(|part| part == b"recalledsecret")
    });
    assert_eq!(left.count(), 0);
    drop(writer);
    let (_, progress) = Index::open(dir.path(), OF).unwrap();
    assert_eq!(progress, Some(DONE), "the purge kept how far it goes");
}

#[test]
fn what_was_not_committed_is_gone_after_a_crash_and_so_is_the_progress() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (_index, mut writer) = index_of(dir.path(), &[said(SITE, 1, 1, "kept")]);
        writer.put(&said(SITE, 1, 2, "lost"), false).unwrap();
        writer.remove(SessionId(1 << 100), 1);
        // Half a commit: the files are written, and what names them is not.
        drop(writer.prepare(Progress::Feed { after: 11, again: 0 }));
    }
    let (index, progress) = Index::open(dir.path(), OF).unwrap();
    assert_eq!(progress, Some(DONE));
    assert_eq!((found(&index, SITE, "kept"), found(&index, SITE, "lost")), (vec![1], vec![]));
    // It goes on from there.
    let mut writer = index.writer().unwrap();
    writer.put(&said(SITE, 1, 2, "lost"), false).unwrap();
    commit(&index, &mut writer, Progress::Feed { after: 10, again: 0 });
    assert_eq!((found(&index, SITE, "kept"), found(&index, SITE, "lost")), (vec![1], vec![2]));
}

#[test]
fn an_index_that_is_damaged_or_of_another_replica_or_form_is_told() {
    let dir = tempfile::tempdir().unwrap();
    drop(index_of(dir.path(), &[said(SITE, 1, 1, "hello")]));
    let is_damaged = |of| matches!(Index::open(dir.path(), of).map(drop), Err(IndexError::Damaged(_)));
    assert!(!is_damaged(OF));
    assert!(is_damaged("cluster/g1/r2"), "another replica's");
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|file| file.path()).collect();
    let ends_with = |end: &str| files.iter().find(|path| path.to_string_lossy().ends_with(end)).unwrap();
    let term_file = ends_with(".term");
    let whole = std::fs::read(term_file).unwrap();
    let mut harmed = whole.clone();
    harmed[2] ^= 1;
    std::fs::write(term_file, &harmed).unwrap();
    assert!(is_damaged(OF), "a byte is another");
    for length in [0, whole.len() / 2] {
        std::fs::write(term_file, &whole[..length]).unwrap();
        assert!(is_damaged(OF), "a file is cut at {length}");
    }
    std::fs::remove_file(term_file).unwrap();
    assert!(is_damaged(OF), "a file is missing");
    std::fs::write(term_file, &whole).unwrap();
    assert!(!is_damaged(OF));
    let meta = ends_with("meta.json");
    let text = std::fs::read_to_string(meta).unwrap();
    std::fs::write(meta, text.replace("\\\"form\\\":1,", "\\\"form\\\":0,")).unwrap();
    assert!(is_damaged(OF), "words are made in another way now");
    std::fs::write(meta, "{").unwrap();
    assert!(is_damaged(OF), "it does not say what it holds");
}
