//! Owns the proof that every command of the guides is one. Does not run them.

use super::line_of_all;
use std::path::Path;

const GUIDES: [&str; 5] =
    ["README.md", "docs/OPERATIONS.md", "docs/ADMIN.md", "docs/PACKAGES.md", "docs/MEASUREMENTS.md"];

/// The words after `everdesk` in a line of a code block, as a shell takes them: up to a comment, pipe or redirection.
fn command_of(line: &str) -> Option<Vec<&str>> {
    let mut words = line.split_whitespace().skip_while(|word| *word != "everdesk").peekable();
    words.peek()?;
    let before = line.split("everdesk").next().unwrap_or_default().trim_end();
    let stands_first = before.is_empty() || before.ends_with(['|', '$']) || before.ends_with("sudo");
    let ends = |word: &&str| word.starts_with(['#', '>', '|', '&', ';']);
    stands_first.then(|| words.take_while(|word| !ends(word)).collect())
}

#[test]
fn every_command_of_the_guides_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut checked, mut wrong) = (0, Vec::new());
    for guide in GUIDES {
        let text = std::fs::read_to_string(root.join(guide)).expect(guide);
        let mut in_block = false;
        for (line, number) in text.lines().zip(1..) {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
                continue;
            }
            let Some(words) = command_of(line).filter(|_| in_block) else { continue };
            checked += 1;
            if let Err(error) = line_of_all().try_get_matches_from(words) {
                wrong.push(format!("{guide}:{number}: {line}\n{error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 30, "only {checked} commands were found");
}
