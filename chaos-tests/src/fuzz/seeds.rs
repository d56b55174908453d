//! Owns the inputs that each target begins with: made from the golden bytes, and those that were kept. Does not keep them itself.
//! Invariant: the same checkout gives the same seeds, in the same order.

mod made;

pub use made::*;

use super::Target;
use std::io;
use std::path::{Path, PathBuf};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder of the checkout in the order of their names; none when there is no such folder.
fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(checkout().join(folder)) else { return Vec::new() };
    let mut found: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("the checkout can be read").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("the checkout can be read"))
        })
        .collect();
    found.sort();
    found
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("golden files hold hexadecimal digits");
    (0..hex.len() / 2 * 2).step_by(2).map(pair).collect()
}

/// Lines `name: hex` of a golden file.
fn golden_lines(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
    lines.map(|(name, hex)| (name.to_owned(), bytes_of(hex))).collect()
}

/// The golden bytes of stored and sent values whose file has such a name.
fn golden(wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let files = files("proto/golden/bytes").into_iter().filter(|(name, _)| wanted(name));
    files.flat_map(|(_, text)| golden_lines(&text)).map(|(_, bytes)| bytes).collect()
}

/// Golden bytes of the values with these tags.
fn tagged(tags: std::ops::RangeInclusive<u8>) -> Vec<Vec<u8>> {
    golden(|name| name.split('-').next().and_then(|tag| tag.parse::<u8>().ok()).is_some_and(|tag| tags.contains(&tag)))
}

/// Key or value, by its name, of the golden rows of a data shard.
fn golden_rows() -> Vec<(String, Vec<u8>)> {
    files("chat/golden").iter().flat_map(|(_, text)| golden_lines(text)).collect()
}

/// Inputs that were kept because they once did harm, or because nothing else reaches what they reach.
fn kept(target: &str) -> Vec<Vec<u8>> {
    files(&format!("chaos-tests/fuzz/seeds/{target}")).into_iter().map(|(_, bytes)| bytes).collect()
}

impl Target {
    /// Everything that this target begins with.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let mut all = (self.seeds)();
        all.extend(kept(self.name));
        all.push(Vec::new());
        all
    }
}

/// Writes what a target begins with as files.
/// # Errors
/// The directory cannot be written.
pub fn write_seeds(target: &Target, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for (number, bytes) in target.corpus().iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number:04}")), bytes)?;
    }
    Ok(())
}
