//! Owns the tests of looking at a stopped node's disk. Does not test what is made of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use storage::{StoppedNode, Survey};

use crate::support::{LogExt, Node, REPLICA, entries};

/// A node that was killed: a log of 20 entries, purged up to 4, and one state row as of entry 9.
fn killed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::rocks(dir.path());
    let log = node.log();
    log.vote_wait(b"vote").unwrap();
    log.save_committed(b"committed".to_vec().into());
    log.append_wait(entries(0..20, 1)).unwrap();
    let (table, _) = node.table();
    table.checkpoint(vec![(b"key".to_vec(), Some(b"value".to_vec()))], b"header".to_vec()).unwrap();
    node.engine.flush_state().unwrap();
    log.purge_wait((4, 1)).unwrap();
    node.writer.stop();
    dir
}

fn survey(dir: &Path) -> (StoppedNode, Survey, Vec<u64>) {
    let disk = StoppedNode::open(dir).unwrap();
    assert_eq!(disk.replicas().unwrap(), [REPLICA]);
    let mut seen = Vec::new();
    let found = disk.survey(REPLICA, &mut |index, _, _| seen.push(index)).unwrap();
    (disk, found, seen)
}

fn image(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let all = files(dir.to_owned()).chain(files(dir.join("db"))).filter(|path| path.is_file());
    all.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn a_stopped_node_is_read_whole_and_not_one_file_changes() {
    let dir = killed();
    let before = image(dir.path());
    let (disk, found, seen) = survey(dir.path());
    assert_eq!((found.purged, found.last, &found.damage), (Some((4, 1)), Some((19, 1)), &None));
    assert_eq!(seen, (5..20).collect::<Vec<_>>());
    assert_eq!((found.committed.as_deref(), found.header.as_deref()), (Some(&b"committed"[..]), Some(&b"header"[..])));
    let mut rows = Vec::new();
    disk.rows(&found, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(rows, [(b"key".to_vec(), b"value".to_vec())]);
    let mut read = Vec::new();
    let mut take = |entry| {
        read.push(entry);
        ControlFlow::Continue(())
    };
    disk.entries(&found, 10, &mut take).unwrap();
    assert_eq!(read, entries(10..20, 1));
    drop(disk);
    assert_eq!(image(dir.path()), before);
}

#[test]
fn a_log_that_lost_its_end_is_told_and_read_up_to_there() {
    let dir = killed();
    for file in image(dir.path()).into_keys().filter(|path| path.extension().is_some_and(|end| end == "log")) {
        let len = file.metadata().unwrap().len();
        std::fs::File::options().write(true).open(&file).unwrap().set_len(len.saturating_sub(len / 3)).unwrap();
    }
    let (_, found, _) = survey(dir.path());
    let damage = found.damage.expect("the end of the log is gone");
    assert!(damage.contains("the watermark knows of"), "{damage}");
}

#[test]
fn a_replica_of_which_only_the_watermark_is_left_is_told() {
    let dir = killed();
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    drop(storage::RocksEngine::open(&dir.path().join("db"), storage::RocksOptions::default()).unwrap());
    let (_, found, _) = survey(dir.path());
    assert_eq!((found.last, found.damage.as_deref()), (None, Some("there is a watermark but no row")));
}
