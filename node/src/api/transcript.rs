//! Owns transcripts: what was said in a session, to be kept or printed. Does not send them. Invariant: whatever somebody wrote stands there
//! as text, and what is between agents only when it is asked for.

use super::conversations::{OfSession, call_session, own};
use crate::admin::problem::Problem;
use crate::admin::sessions::SessionView;
use crate::admin::{Tenant, read_meta};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Data, Path, Query};
use base64ct::{Base64, Encoding};
use jiff::Timestamp;
use proto::act::Act;
use proto::client::limits::HISTORY_LIMIT_MAX;
use proto::command::{Event, EventBody, Party};
use proto::ids::SessionId;
use proto::peer::{Page, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Events that one transcript looks at; of a longer session the newest.
const EVENTS_MAX: u64 = 20_000;
/// And about so many bytes.
const BYTES_MAX: usize = 4 << 20;
/// The whole of a page's style: the header allows no other.
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}\
h1{font-size:1.25rem}ol{list-style:none;padding:0}li{margin:0 0 1rem}b{margin-right:.5rem}time{color:#666;font-size:.875rem}\
p{margin:.125rem 0;white-space:pre-wrap;overflow-wrap:anywhere}.note{background:#fff6d6;padding:.25rem .5rem}\
@media print{body{margin:0;max-width:none}li{break-inside:avoid}}";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A page that can be printed.
    Html,
    Json,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TranscriptQuery {
    /// `html` unless said otherwise.
    #[param(inline, nullable = false)]
    format: Option<Format>,
    /// With the notes between agents.
    #[param(nullable = false)]
    notes: Option<bool>,
}

/// What was said.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Transcript {
    /// The site's name.
    pub site: String,
    #[schema(value_type = String)]
    pub session: SessionId,
    /// There is more before it.
    pub cut: bool,
    pub lines: Vec<Line>,
}

#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Line {
    pub seq: u64,
    /// RFC 3339.
    pub at: String,
    /// An agent's name, or visitor or system.
    pub from: String,
    /// As it was edited last; null: it was taken back.
    pub text: Option<String>,
    /// The names of its files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Between agents.
    pub note: bool,
}

/// The messages among events, oldest first. `name`: who an agent is.
pub fn lines(events: &[Event], with_notes: bool, name: impl Fn(Party) -> String) -> Vec<Line> {
    let edits: BTreeMap<u64, &str> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Act { act: Act::Edit { seq, text }, .. } => Some((*seq, text.as_str())),
            _ => None,
        })
        .collect();
    let line = |event: &Event| {
        let (from, text, files, note) = match &event.body {
            EventBody::Message { from, text, attachments, .. } => (*from, text, attachments.as_slice(), false),
            EventBody::Act { from, act: Act::Prompt { text, .. } | Act::Invite { text, .. }, .. } => {
                (*from, text, &[][..], false)
            }
            EventBody::Act { from, act: Act::Note { text, .. }, .. } if with_notes => (*from, text, &[][..], true),
            _ => return None,
        };
        let files: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        // A text that was recalled is empty, whatever it had been edited to.
        let text = (!text.is_empty() || !files.is_empty())
            .then(|| edits.get(&event.seq).map_or(text.as_str(), |edited| *edited).to_owned());
        let at = i64::try_from(event.ts_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let at = at.map(|at| at.to_string()).unwrap_or_default();
        Some(Line { seq: event.seq, at, from: name(from), text, files, note })
    };
    events.iter().filter_map(line).collect()
}

pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Nothing else has a meaning in the text of an element; these have none in a page at all.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Transcript {
    pub fn html(&self) -> String {
        let line = |line: &Line| {
            let text = line.text.as_deref().map_or_else(
                || "<p><i>taken back</i></p>".to_owned(),
                |text| {
                    format!("<p dir=\"auto\"{}>{}</p>", if line.note { " class=\"note\"" } else { "" }, escaped(text))
                },
            );
            let (from, at) = (escaped(&line.from), escaped(&line.at));
            let file = |name: &String| format!("<p dir=\"auto\" class=\"file\">[{}]</p>", escaped(name));
            let files: String = line.files.iter().map(file).collect();
            format!("<li><b dir=\"auto\">{from}</b><time>{at}</time>{text}{files}</li>\n")
        };
        let title = escaped(&format!("{} {}", self.site, self.session));
        let lines: String = self.lines.iter().map(line).collect();
        let cut = if self.cut { "<p>There is more before this.</p>\n" } else { "" };
        format!(
            "<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{cut}<ol>\n{lines}</ol></body></html>\n"
        )
    }
}

/// The newest events of a session, oldest first, and whether there are more before them.
pub async fn newest(app: &App, view: &SessionView) -> Result<(Vec<Event>, bool), Problem> {
    let (session, site) = (view.session, Some(view.site));
    let (mut before, mut bytes, mut pages) = (view.head + 1, 0, Vec::new());
    let lowest = view.head.saturating_sub(EVENTS_MAX);
    while before > lowest + 1 && bytes < BYTES_MAX {
        let call = ShardCall::History { session, page: Page::Before(before), limit: HISTORY_LIMIT_MAX as u32, site };
        let ShardReply::History { events, .. } = call_session(app, session, call).await? else {
            return Err(crate::admin::unexpected());
        };
        let Some(first) = events.first() else { break };
        before = first.seq;
        bytes += proto::codec::encode_bare(&events).len();
        pages.push(events);
    }
    Ok((pages.into_iter().rev().flatten().collect(), before > 1))
}

pub async fn transcript(
    app: Data<App>,
    Tenant(site): Tenant,
    path: Path<OfSession>,
    query: Query<TranscriptQuery>,
) -> Result<HttpResponse, Problem> {
    let view = own(&app, site, &path.session).await?;
    let (events, cut) = newest(&app, &view).await?;
    let (site, lines) = read_meta(&app, |state| {
        let name = |party| match party {
            Party::Visitor => "visitor".to_owned(),
            Party::System => "system".to_owned(),
            Party::Agent(agent) => state.agents.get(&agent).map_or(agent.to_string(), |row| row.name.clone()),
        };
        let site = state.sites.get(&site).map(|row| row.name.clone()).unwrap_or_default();
        (site, lines(&events, query.notes.unwrap_or(false), name))
    })?;
    let transcript = Transcript { site, session: view.session, cut, lines };
    Ok(answer(&transcript, query.format.unwrap_or(Format::Html)))
}

/// A transcript as it is asked for; a page may be saved and printed, and does nothing.
pub fn answer(transcript: &Transcript, format: Format) -> HttpResponse {
    if format == Format::Json {
        return HttpResponse::Ok().json(transcript);
    }
    let style = Base64::encode_string(&Sha256::digest(STYLE.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{style}'; sandbox");
    let file = format!("attachment; filename=\"transcript-{}.html\"", transcript.session);
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::CONTENT_DISPOSITION, file))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(transcript.html())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::AgentId;

    fn said(seq: u64, body: EventBody) -> Event {
        Event { seq, ts_ms: 1_795_420_800_000 + seq, body }
    }

    fn message(seq: u64, from: Party, text: &str) -> Event {
        let (device, cid) = (String::new(), String::new());
        said(
            seq,
            EventBody::Message { from, device, n: 0, cid, text: text.into(), reply_to: None, attachments: Vec::new() },
        )
    }

    fn act(seq: u64, act: Act) -> Event {
        let (from, device, cid) = (Party::Agent(AgentId(4)), String::new(), String::new());
        said(seq, EventBody::Act { from, device, n: 0, cid, act })
    }

    fn name(party: Party) -> String {
        format!("{party:?}")
    }

    #[test]
    fn a_transcript_has_what_was_said_last_and_notes_only_when_they_are_asked_for() {
        let agent = Party::Agent(AgentId(4));
        let events = [
            message(1, Party::Visitor, "helo"),
            act(2, Act::Note { text: "an old friend".into(), mentions: Vec::new() }),
            message(3, agent, "first"),
            act(4, Act::Edit { seq: 3, text: "second".into() }),
            act(5, Act::Edit { seq: 3, text: "third".into() }),
            message(6, Party::Visitor, ""),
            said(7, EventBody::Closed { by: agent, conversation: 1, reason: "between us".into() }),
        ];
        let texts = |notes: bool| {
            let lines = lines(&events, notes, name);
            lines.into_iter().map(|line| (line.seq, line.text.unwrap_or_else(|| "-".into()))).collect::<Vec<_>>()
        };
        let without = [(1, "helo".to_owned()), (3, "third".to_owned()), (6, "-".to_owned())];
        assert_eq!(texts(false), without);
        assert_eq!(texts(true)[1], (2, "an old friend".to_owned()));
        let first = &lines(&events, false, name)[0];
        assert_eq!((first.at.as_str(), first.from.as_str()), ("2026-11-23T08:00:00.001Z", "Visitor"));
    }

    /// What people write who want a page to do something.
    const CORPUS: [&str; 14] = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</p></li></ol><svg/onload=alert(1)>",
        "\"><iframe src=javascript:alert(1)>",
        "'-alert(1)-'",
        "<!--<img src=\"--><img src=x onerror=alert(1)//\">",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "<style>@import 'http://x'</style>",
        "</title><script>alert(1)</script>",
        "<math><mtext></p><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
        "\u{0}<\u{0}script>",
        "{{constructor.constructor('alert(1)')()}}",
        "javascript:alert(1)",
        "＜script＞alert(1)＜/script＞",
    ];

    #[test]
    fn whatever_is_written_stands_in_a_transcript_as_text() {
        let plain = Line {
            seq: 1,
            at: "t".into(),
            from: "f".into(),
            text: Some("x".into()),
            files: vec!["n".into()],
            note: false,
        };
        let page = |line: Line, site: &str| {
            Transcript { site: site.into(), session: SessionId(1), cut: false, lines: vec![line] }.html()
        };
        let tags = |html: &str| (html.matches('<').count(), html.matches('>').count(), html.matches('"').count());
        let usual = tags(&page(Line { ..plain }, "site"));
        for hostile in CORPUS {
            let of = |from: &str, text: &str, file: &str| Line {
                seq: 1,
                at: "t".into(),
                from: from.into(),
                text: Some(text.into()),
                files: vec![file.into()],
                note: false,
            };
            for html in [
                page(of("f", hostile, "n"), "s"),
                page(of(hostile, "x", "n"), "s"),
                page(of("f", "x", hostile), "s"),
                page(of("f", "x", "n"), hostile),
            ] {
                assert_eq!(tags(&html), usual, "{hostile}");
                assert!(!html.contains('\u{0}'));
            }
        }
        let kept = page(
            Line {
                seq: 1,
                at: "t".into(),
                from: "f".into(),
                text: Some("a < b && \"c\"\n你好 🙂".into()),
                files: Vec::new(),
                note: true,
            },
            "s",
        );
        assert!(kept.contains("class=\"note\">a &lt; b &amp;&amp; &quot;c&quot;\n你好 🙂</p>"), "{kept}");
    }
}
