//! Owns the tests of texts that are written to make a program do something. Which fields there are is read from the documents of the API and
//! of the sockets, so that a new one is tried or somebody says why not. Invariant: what is taken is kept as it was written, what is not is
//! refused, and nothing that is made of it is built in another way than of a harmless text.

/// What is written.
mod corpus;

/// Where it can be written, and what is answered.
mod asker;
mod fields;
mod frames;
mod operations;
mod yaml;

/// Who writes it.
mod beside_the_document;
mod through_the_api;
mod through_the_sockets;

/// What is made of it.
mod shape;
mod what_is_made;

use super::*;

/// What became of the texts of a field.
#[derive(Debug, Default)]
struct Tried {
    taken: usize,
    refused: usize,
    wrong: Vec<String>,
}

/// Says what became of each field; an error if anything was wrong. `of`: what has the fields.
fn judge(done: Vec<(String, anyhow::Result<Tried>)>, of: &str) -> anyhow::Result<()> {
    let (mut wrong, mut taken, mut refused, count) = (Vec::new(), 0, 0, done.len());
    for (name, tried) in done {
        match tried {
            Ok(mut tried) => {
                println!("{name}: {} taken, {} refused", tried.taken, tried.refused);
                taken += tried.taken;
                refused += tried.refused;
                wrong.append(&mut tried.wrong);
            }
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
    }
    println!("{count} fields of {of}, {} cases: {taken} taken, {refused} refused", taken + refused);
    ensure!(wrong.is_empty(), "{} of {count}: {wrong:#?}", wrong.len());
    Ok(())
}
