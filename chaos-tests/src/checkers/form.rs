//! Owns "the file is a history at all". Does not judge the system: a breach here is a fault of whoever wrote the file.
//! Invariant: what passes can be trusted by every other property.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line};
use crate::history::{Body, ClientId, NodeId, OpId, Record, Reply, What, Who};

pub const NAME: &str = "well-formed";

/// Found while the index was built.
pub fn check(index: &Index<'_>) -> Findings {
    index.form.clone()
}

/// What an operation still lacks.
enum Stage<'a> {
    Begun(&'a What, Line),
    Ended(Line),
}

/// Looks at each line in the light of those before it.
pub(super) fn check_file(records: &[Record], found: &mut Findings) {
    let mut clients = BTreeMap::<ClientId, &Who>::new();
    let mut ops = BTreeMap::<OpId, Stage<'_>>::new();
    let mut nodes = BTreeSet::<NodeId>::new();
    let mut last = 0;
    for (record, line) in records.iter().zip(1..).map(|(record, number)| (record, Line(number))) {
        found.count();
        if record.t < last {
            found.breach_of_run("time goes back".to_owned(), &[line]);
        }
        last = record.t;
        if matches!(record.body, Body::Run { .. }) != (line == Line(1)) {
            found.breach_of_run("`run` is the first line and no other".to_owned(), &[line]);
        }
        match &record.body {
            Body::Run { nodes: all, .. } => nodes.extend(all),
            Body::Client { client, who } => {
                let is_new = clients.insert(*client, who).is_none();
                if !is_new {
                    found.breach_of_run(format!("client {client} begins twice"), &[line]);
                }
            }
            Body::Invoke { op, client, what } => {
                check_right(clients.get(client).copied(), what, line, found);
                if ops.insert(*op, Stage::Begun(what, line)).is_some() {
                    found.breach_of_run(format!("op {op} begins twice"), &[line]);
                }
            }
            Body::Ok { op, .. } | Body::Fail { op, .. } | Body::Unknown { op, .. } => {
                check_end(ops.insert(*op, Stage::Ended(line)), *op, &record.body, line, found);
            }
            Body::Event { client, .. } | Body::Cursor { client, .. } | Body::Connected { client, .. }
                if !clients.contains_key(client) =>
            {
                found.breach_of_run(format!("nobody is client {client}"), &[line]);
            }
            Body::Final { node, .. } if !nodes.contains(node) => {
                found.breach_of_run(format!("the run has no node {node}"), &[line]);
            }
            _ => {}
        }
    }
    if records.is_empty() {
        found.breach_of_run("the file is empty".to_owned(), &[]);
    }
}

fn check_right(who: Option<&Who>, what: &What, line: Line, found: &mut Findings) {
    match who {
        None => found.breach_of_run("nobody is this client".to_owned(), &[line]),
        Some(Who::Visitor(own)) if own != what.session() => {
            found.breach_of_run(format!("the visitor of {own} asks for {}", what.session()), &[line]);
        }
        Some(Who::Operator) if !matches!(what, What::Move { .. } | What::History { .. } | What::Erase { .. }) => {
            found.breach_of_run("an operator only moves, reads and erases".to_owned(), &[line]);
        }
        Some(Who::Visitor(_) | Who::Agent(_)) if matches!(what, What::Erase { .. }) => {
            found.breach_of_run("only an operator erases".to_owned(), &[line]);
        }
        Some(_) => {}
    }
}

fn check_end(before: Option<Stage<'_>>, op: OpId, end: &Body, line: Line, found: &mut Findings) {
    let (what, begun) = match before {
        None => return found.breach_of_run(format!("op {op} ends and never began"), &[line]),
        Some(Stage::Ended(first)) => return found.breach_of_run(format!("op {op} ends twice"), &[first, line]),
        Some(Stage::Begun(what, begun)) => (what, begun),
    };
    let Body::Ok { result, .. } = end else { return };
    let fits = match what {
        What::Send { .. } | What::Act { .. } => matches!(result, Some(Reply::Sent { .. })),
        What::Cursor { .. } => matches!(result, Some(Reply::Cursor { .. })),
        What::History { .. } => matches!(result, Some(Reply::History { .. })),
        What::Close { .. } | What::Move { .. } | What::Erase { .. } => result.is_none(),
    };
    if !fits {
        found.breach_of_run(format!("op {op} has the answer of something else"), &[begun, line]);
    }
}
