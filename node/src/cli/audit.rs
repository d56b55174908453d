//! Owns `everdesk audit`: reads a chain through the admin API or out of a file, and checks it. Does not believe what it is told of hashes.
//! Invariant: a log that is broken, or not the one of a head that was kept, is an exit status of its own.

use super::admin::escaped;
use super::{Target, call, time_text};
use crate::admin::AuditView;
use crate::audit::verify::{Broken, EntryView, PointView, Verifier};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The exit status for a log that is broken.
pub const BROKEN: u8 = 3;
/// Entries that are asked for at once.
const PAGE: u32 = 1_000;
/// The form of exported files.
const FORM: u32 = 1;
/// Longest line of an exported file, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Which chain.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// The site's name; without it, what operators did.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Make every hash anew, and name the first entry that is not as it was written. Exit status 3: the log is broken.
    Verify {
        #[command(flatten)]
        which: Which,
        /// What `verify` printed before: show that the log of that time is the beginning of this one.
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<PointView>,
        /// A file that `export` wrote, instead of a node.
        #[arg(long, conflicts_with = "site")]
        file: Option<PathBuf>,
    },
    /// Print entries for people, oldest first.
    List {
        #[command(flatten)]
        which: Which,
        /// Only those after this one.
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        /// The last so many.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        last: Option<u64>,
    },
    /// Write the log as JSON, one entry a line, for `verify --file` and other tools.
    Export {
        #[command(flatten)]
        which: Which,
        /// Write into this file.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// The first line of an exported file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    everdesk_audit: u32,
    chain: String,
    cut: PointView,
}

/// The last line of an exported file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bottom {
    head: PointView,
}

pub fn main(command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Verify { which: _, head, file: Some(file) } => verify_file(&file, head),
        AuditCommand::Verify { which, head, file: None } => verify(&which, head),
        AuditCommand::List { which, after, last } => list(&which, after, last),
        AuditCommand::Export { which, output: None } => export(&which, &mut std::io::stdout().lock()),
        AuditCommand::Export { which, output: Some(path) } => {
            let shown = path.display();
            let file = std::fs::File::create(&path).with_context(|| format!("cannot write {shown}"))?;
            export(&which, &mut BufWriter::new(file)).with_context(|| format!("cannot write {shown}"))
        }
    }
}

fn page(which: &Which, after: u64, limit: u32) -> anyhow::Result<AuditView> {
    let base = match &which.site {
        Some(site) => format!("/admin/v1/sites/{}/audit", escaped(site)),
        None => "/admin/v1/audit".to_owned(),
    };
    let told = call(&which.target, "GET", &format!("{base}?after={after}&limit={limit}"), None)?;
    serde_json::from_value(told).context("the answer is no page of an audit log")
}

/// Reads a chain from `after` on: what stands before it, and each entry up to the head at the time of the last page.
fn read(
    which: &Which,
    begin: impl FnOnce(&AuditView) -> anyhow::Result<u64>,
    mut each: impl FnMut(EntryView) -> anyhow::Result<()>,
) -> anyhow::Result<PointView> {
    let first = page(which, 0, 1)?;
    let mut after = begin(&first)?;
    loop {
        let page = page(which, after, PAGE)?;
        if page.cut.seq > after {
            bail!("entries up to {} were cut off meanwhile: begin anew", page.cut.seq);
        }
        let Some(last) = page.entries.last().map(|entry| entry.seq) else { return Ok(page.head) };
        for entry in page.entries {
            each(entry)?;
        }
        // A node that sends the same again and again would keep this busy for ever.
        if last <= after {
            return Err(Broken { seq: after + 1, why: format!("entry {last} stands in its place") }.into());
        }
        after = last;
        if after >= page.head.seq {
            return Ok(page.head);
        }
    }
}

fn verify(which: &Which, kept: Option<PointView>) -> anyhow::Result<()> {
    let verifier = std::cell::RefCell::new(None::<Verifier>);
    let mut entries = 0_u64;
    let begin = |first: &AuditView| {
        let begun = Verifier::new(&first.chain, first.cut.clone(), kept.clone())?;
        verifier.replace(Some(begun));
        Ok(first.cut.seq)
    };
    let head = read(which, begin, |entry| {
        entries += 1;
        if let Some(verifier) = verifier.borrow_mut().as_mut() {
            verifier.next(&entry)?;
        }
        Ok(())
    })?;
    let verifier = verifier.into_inner().context("nothing was read")?;
    said(entries, verifier.end(&head)?, kept.is_some())
}

fn said(entries: u64, head: PointView, is_kept: bool) -> anyhow::Result<()> {
    let kept = if is_kept { "; the log of the head that was kept is its beginning" } else { "" };
    println!("{entries} entries, all as they were written{kept}");
    println!("{head}");
    Ok(())
}

/// A line of a file; `None`: it ends.
fn line(file: &mut impl BufRead, text: &mut String) -> anyhow::Result<bool> {
    use std::io::Read;
    text.clear();
    file.by_ref().take(LINE_BYTES_MAX).read_line(text).context("cannot read the file")?;
    Ok(!text.is_empty())
}

fn verify_file(path: &Path, kept: Option<PointView>) -> anyhow::Result<()> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut file, mut text) = (BufReader::new(file), String::new());
    line(&mut file, &mut text)?;
    let top: Top = serde_json::from_str(&text).context("this is no exported audit log")?;
    if top.everdesk_audit != FORM {
        bail!("this audit log has the form {}; this build knows {FORM}", top.everdesk_audit);
    }
    let is_kept = kept.is_some();
    let mut verifier = Verifier::new(&top.chain, top.cut, kept)?;
    let mut entries = 0;
    while line(&mut file, &mut text)? {
        let seq = verifier.at().seq + 1;
        if let Ok(Bottom { head }) = serde_json::from_str(&text) {
            if line(&mut file, &mut text)? {
                return Err(Broken { seq, why: "something stands behind the end".into() }.into());
            }
            return said(entries, verifier.end(&head)?, is_kept);
        }
        let unreadable = |error: serde_json::Error| Broken { seq, why: format!("it cannot be read: {error}") };
        let entry: EntryView = serde_json::from_str(&text).map_err(unreadable)?;
        verifier.next(&entry)?;
        entries += 1;
    }
    Err(Broken { seq: verifier.at().seq + 1, why: "the file ends in the middle".into() }.into())
}

fn export(which: &Which, out: &mut impl Write) -> anyhow::Result<()> {
    let out = std::cell::RefCell::new(out);
    let put = |text: serde_json::Result<String>| -> anyhow::Result<()> { Ok(writeln!(out.borrow_mut(), "{}", text?)?) };
    let begin = |first: &AuditView| {
        let (chain, cut) = (first.chain.clone(), first.cut.clone());
        put(serde_json::to_string(&Top { everdesk_audit: FORM, chain, cut }))?;
        Ok(first.cut.seq)
    };
    let head = read(which, begin, |entry| put(serde_json::to_string(&entry)))?;
    put(serde_json::to_string(&Bottom { head }))?;
    Ok(out.into_inner().flush()?)
}

fn list(which: &Which, after: u64, last: Option<u64>) -> anyhow::Result<()> {
    let begin = |first: &AuditView| {
        let newest = last.map_or(0, |count| first.head.seq.saturating_sub(count));
        Ok(after.max(newest).max(first.cut.seq))
    };
    println!("{:<8} {:<20} {:<22} {:<16} {:<13} act", "seq", "time (UTC)", "who", "from", "what");
    read(which, begin, |entry| {
        let what = match entry.phase.as_str() {
            "done" => format!("{} of {}", entry.status, entry.begun),
            "begun" => "begun".to_owned(),
            other => format!("{other} {}", entry.status),
        };
        let (seq, who, from, at) = (entry.seq, &entry.who, &entry.address, time_text(Some(entry.ts_ms)));
        let act = if entry.method.is_empty() { &entry.route } else { &entry.method };
        println!("{seq:<8} {at:<20} {who:<22} {from:<16} {what:<13} {act} {}", entry.target);
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[String]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.concat().as_bytes()).unwrap();
        file
    }

    /// An exported log of some entries, and its head.
    fn exported(count: u64) -> (Vec<String>, PointView) {
        let (mut at, mut lines) = (PointView::origin(), Vec::new());
        let top = Top { everdesk_audit: FORM, chain: "operators".into(), cut: at.clone() };
        lines.push(serde_json::to_string(&top).unwrap() + "\n");
        for seq in 1..=count {
            let text = |text: &str| text.to_owned();
            let mut entry = EntryView {
                seq,
                ts_ms: seq,
                act: format!("{seq:032x}"),
                phase: text("told"),
                begun: 0,
                status: 200,
                who: text("token:ci"),
                role: text("admin"),
                address: text("::1"),
                node: text("n1"),
                method: text("POST"),
                route: text("/r"),
                target: text("/r?ü"),
                body_sha256: String::new(),
                hash: String::new(),
            };
            entry.hash = entry.hash_after(&at.hash, "operators");
            at = PointView { seq, hash: entry.hash.clone() };
            lines.push(serde_json::to_string(&entry).unwrap() + "\n");
        }
        lines.push(serde_json::to_string(&Bottom { head: at.clone() }).unwrap() + "\n");
        (lines, at)
    }

    fn broken_at(lines: &[String], kept: Option<&PointView>) -> Option<u64> {
        let file = written(lines);
        let checked = verify_file(file.path(), kept.cloned());
        checked.err().map(|error| error.downcast::<Broken>().expect("it is broken, and no other error").seq)
    }

    #[test]
    fn an_exported_file_is_verified_without_a_node_and_every_damage_is_found() {
        let (lines, head) = exported(9);
        assert_eq!(broken_at(&lines, Some(&head)), None);
        let mut changed = lines.clone();
        changed[4] = changed[4].replace("token:ci", "token:cj");
        assert_eq!(broken_at(&changed, None), Some(4));
        for cut in 1..lines.len() {
            assert_eq!(broken_at(&lines[..cut], None), Some(cut as u64), "the file ends in the middle");
        }
        let mut removed = lines.clone();
        removed.remove(5);
        assert_eq!(broken_at(&removed, None), Some(5));
        let mut more = lines.clone();
        more.push("{}\n".into());
        assert_eq!(broken_at(&more, None), Some(10));
        let mut garbled = lines.clone();
        garbled[3] = "what?\n".into();
        assert_eq!(broken_at(&garbled, None), Some(3));
        let (short, _) = exported(7);
        assert_eq!((broken_at(&short, None), broken_at(&short, Some(&head))), (None, Some(8)));
        assert!(verify_file(written(&["{}\n".into()]).path(), None).is_err_and(|error| !error.is::<Broken>()));
    }
}
