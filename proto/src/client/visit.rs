//! Owns reading where a visitor is and was. Does not keep it. Invariant: what is read is within the limits, so that many visitors take
//! little room.

use super::limits::{PAGE_TITLE_BYTES_MAX, PAGE_URL_BYTES_MAX, TRAIL_MAX, TRIGGER_BYTES_MAX};
use super::parse::{has_control, need, once, session_id};
use super::reader::{Fault, Reader};
use super::request::{PageSeen, Trigger, Verb, Visit};
use std::borrow::Cow;

pub(super) fn visit<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut trail, mut referrer, mut visits) = (None, None, None, None);
    reader.object("visit", |reader, key| match key {
        "session" => once(&mut session, "visit.session", session_id(reader, "visit.session")?),
        "trail" => once(&mut trail, "visit.trail", self::trail(reader)?),
        "referrer" => once(&mut referrer, "visit.referrer", text(reader, "visit.referrer", PAGE_URL_BYTES_MAX)?),
        "visits" => once(&mut visits, "visit.visits", reader.u64("visit.visits")?),
        _ => Ok(false),
    })?;
    let (session, trail) = (need(session, "visit.session")?, need(trail, "visit.trail")?);
    if referrer.as_deref().is_some_and(|from| !is_page(from)) {
        return Err(Fault::bad("visit.referrer: is not http or https"));
    }
    Ok(Verb::Visit(Visit { session, trail, referrer, visits }))
}

pub(super) fn trigger<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut trigger) = (None, None);
    reader.object("trigger", |reader, key| match key {
        "session" => once(&mut session, "trigger.session", session_id(reader, "trigger.session")?),
        "trigger" => once(&mut trigger, "trigger.trigger", text(reader, "trigger.trigger", TRIGGER_BYTES_MAX)?),
        _ => Ok(false),
    })?;
    let (session, trigger) = (need(session, "trigger.session")?, need(trigger, "trigger.trigger")?);
    Ok(Verb::Trigger(Trigger { session, trigger }))
}

fn trail<'a>(reader: &mut Reader<'a>) -> Result<Vec<PageSeen<'a>>, Fault> {
    let mut pages = Vec::new();
    reader.array("visit.trail", |reader| {
        if pages.len() == TRAIL_MAX {
            return Err(Fault::bad("visit.trail: has more than 20 entries"));
        }
        let (mut url, mut title, mut at) = (None, None, None);
        reader.object("visit.trail", |reader, key| match key {
            "url" => once(&mut url, "visit.trail.url", text(reader, "visit.trail.url", PAGE_URL_BYTES_MAX)?),
            "title" => once(&mut title, "visit.trail.title", text(reader, "visit.trail.title", PAGE_TITLE_BYTES_MAX)?),
            "at" => once(&mut at, "visit.trail.at", reader.u64("visit.trail.at")?),
            _ => Ok(false),
        })?;
        let (url, at) = (need(url, "visit.trail.url")?, need(at, "visit.trail.at")?);
        if !is_page(&url) {
            return Err(Fault::bad("visit.trail.url: is not http or https"));
        }
        pages.push(PageSeen { url, title: title.unwrap_or_default(), at });
        Ok(())
    })?;
    if pages.is_empty() { Err(Fault::bad("visit.trail: is empty")) } else { Ok(pages) }
}

/// A link that runs a script is no page, wherever it is shown.
fn is_page(url: &str) -> bool {
    let starts = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    starts("https://") || starts("http://")
}

fn text<'a>(reader: &mut Reader<'a>, field: &'static str, bytes_max: usize) -> Result<Cow<'a, str>, Fault> {
    let text = reader.string(field)?;
    if text.len() > bytes_max || has_control(&text) {
        return Err(Fault::bad(format!("{field}: must have at most {bytes_max} bytes and no control characters")));
    }
    Ok(text)
}
