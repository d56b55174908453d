//! Owns the hand-written JSON of the two hot frames, `ack` and `event`. Does not know sockets.
//! Invariant: byte for byte what serde would write; `round_trip_tests` compares them.

use super::event::{Event, EventKind};
use super::party::Party;
use super::reply::{Ack, HistoryPage, Reply, ServerFrame};
use super::scan::next_special;
use crate::ids::SessionId;

impl ServerFrame<'_> {
    /// Appends the frame as JSON.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match (&self.body, self.id) {
            (Reply::Ack(ack), Some(id)) => encode_ack(id, ack, out),
            (Reply::Event(event), None) => encode_event(event, out),
            (Reply::History(page), Some(id)) => encode_history(id, page, out),
            _ => serde_json::to_writer(out, self).expect("a Vec takes every byte and no field can fail to serialize"),
        }
    }

    /// The frame as JSON text.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(256);
        self.encode_into(&mut out);
        String::from_utf8(out).expect("JSON written from str is UTF-8")
    }
}

/// Appends `{"id":..,"ack":{..}}`.
pub fn encode_ack(id: u64, ack: &Ack<'_>, out: &mut Vec<u8>) {
    out.reserve(128 + ack.cid.len());
    out.extend_from_slice(b"{\"id\":");
    push_u64(id, out);
    out.extend_from_slice(b",\"ack\":{\"session\":\"");
    push_session(ack.session, out);
    out.extend_from_slice(b"\",\"cid\":");
    push_string(&ack.cid, out);
    out.extend_from_slice(b",\"seq\":");
    push_u64(ack.seq, out);
    out.extend_from_slice(b",\"ts\":");
    push_u64(ack.ts, out);
    out.extend_from_slice(if ack.dup { b",\"dup\":true}}" } else { b"}}" });
}

/// Appends `{"event":{..}}`, the push of one event.
pub fn encode_event(event: &Event<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event\":");
    push_event(event, out);
    out.push(b'}');
}

/// Appends `{"id":..,"history":{..}}`.
pub fn encode_history(id: u64, page: &HistoryPage<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    push_u64(id, out);
    out.extend_from_slice(b",\"history\":{\"session\":\"");
    push_session(page.session, out);
    out.extend_from_slice(b"\",\"events\":[");
    for (index, event) in page.events.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_event(event, out);
    }
    out.extend_from_slice(b"],\"head\":");
    push_u64(page.head, out);
    out.extend_from_slice(b"}}");
}

fn push_event(event: &Event<'_>, out: &mut Vec<u8>) {
    if is_rare(&event.kind) {
        serde_json::to_writer(out, event).expect("a Vec takes every byte and no field can fail to serialize");
        return;
    }
    out.reserve(224);
    out.extend_from_slice(b"{\"session\":\"");
    push_session(event.session, out);
    out.extend_from_slice(b"\",\"seq\":");
    push_u64(event.seq, out);
    match &event.kind {
        // Written by serde, above.
        EventKind::Act { .. } | EventKind::Gone | EventKind::Erased { .. } | EventKind::Hidden => {}
        EventKind::Message { from, text, attachments, reply_to, cid } => {
            out.extend_from_slice(b",\"kind\":\"message\",\"from\":");
            push_party(*from, out);
            out.extend_from_slice(b",\"text\":");
            push_string(text, out);
            if !attachments.is_empty() {
                out.extend_from_slice(b",\"attachments\":");
                serde_json::to_writer(&mut *out, attachments)
                    .expect("a Vec takes every byte and no field can fail to serialize");
            }
            if let Some(seq) = reply_to {
                out.extend_from_slice(b",\"reply_to\":");
                push_u64(*seq, out);
            }
            if let Some(cid) = cid {
                out.extend_from_slice(b",\"cid\":");
                push_string(cid, out);
            }
        }
        EventKind::Assigned { agent } => {
            out.extend_from_slice(b",\"kind\":\"assigned\",\"agent\":\"a");
            push_u64(agent.0, out);
            out.push(b'"');
        }
        EventKind::Closed { by, reason } => {
            out.extend_from_slice(b",\"kind\":\"closed\",\"by\":");
            push_party(*by, out);
            if let Some(reason) = reason {
                out.extend_from_slice(b",\"reason\":");
                push_string(reason, out);
            }
        }
        EventKind::Queued { by } => {
            out.extend_from_slice(b",\"kind\":\"queued\",\"by\":");
            push_party(*by, out);
        }
    }
    out.extend_from_slice(b",\"ts\":");
    push_u64(event.ts, out);
    out.push(b'}');
}

fn is_rare(kind: &EventKind<'_>) -> bool {
    matches!(kind, EventKind::Act { .. } | EventKind::Gone | EventKind::Erased { .. } | EventKind::Hidden)
}

fn push_party(party: Party, out: &mut Vec<u8>) {
    match party {
        Party::Visitor(id) => {
            out.extend_from_slice(b"{\"kind\":\"visitor\",\"id\":\"");
            push_hex(id.0, out);
            out.extend_from_slice(b"\"}");
        }
        Party::Agent(id) => {
            out.extend_from_slice(b"{\"kind\":\"agent\",\"id\":\"a");
            push_u64(id.0, out);
            out.extend_from_slice(b"\"}");
        }
        Party::System => out.extend_from_slice(b"{\"kind\":\"system\"}"),
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_session(session: SessionId, out: &mut Vec<u8>) {
    push_hex(session.0, out);
}

fn push_hex(number: u128, out: &mut Vec<u8>) {
    let mut text = [0u8; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    out.extend_from_slice(&text);
}

fn push_u64(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [0u8; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut run = 0;
    loop {
        let special = next_special(bytes, run);
        out.extend_from_slice(&bytes[run..special]);
        let Some(byte) = bytes.get(special) else { break };
        push_escape(*byte, out);
        run = special + 1;
    }
    out.push(b'"');
}

fn push_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
