//! Owns the calendar: whether a site is open, and when it opens next. Does not act on it: the desk does, by the leader's word in the
//! log, because two builds may know different rules of a time zone. Invariant: a time of day means the clocks of the site's zone,
//! whatever they do that day.

use crate::push::Hub;
use cluster::router::ReplyTo;
use cluster::shard::{Shard, now_ms};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proto::command::{Command, Target};
use proto::desk::{Hours, Stretch};
use proto::ids::SiteId;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// So late may a site open or close.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// So far is looked for the next opening, in days: over a year, for hours that name one day of the calendar.
const DAYS_AHEAD: i32 = 400;

/// Whether there is such a time zone.
pub fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

/// Until when the site is closed at that time, both in milliseconds since 1970; 0: nobody knows. `None`: it is open, or its zone is
/// not known here, and then nobody is kept waiting for that.
pub fn closed_until(hours: &Hours, now_ms: u64) -> Option<u64> {
    let zone = TimeZone::get(&hours.zone).ok()?;
    let now = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?.to_zoned(zone.clone());
    let (today, time) = (now.date(), now.time());
    let minute = time.hour() as u16 * 60 + time.minute() as u16;
    if open_on(hours, today).any(|stretch| (stretch.from..stretch.to).contains(&minute)) {
        return None;
    }
    let opens = |date: Date| {
        let at = |stretch: Stretch| {
            let time = Time::new((stretch.from / 60) as i8, (stretch.from % 60) as i8, 0, 0).ok()?;
            // A time that the clocks skip or repeat that day is read as most people do.
            let at = date.to_datetime(time).to_zoned(zone.clone()).ok()?;
            u64::try_from(at.timestamp().as_millisecond()).ok().filter(|at| *at > now_ms)
        };
        open_on(hours, date).filter_map(at).min()
    };
    let days = (0..DAYS_AHEAD).map_while(|ahead| today.checked_add(ahead.days()).ok());
    Some(days.into_iter().find_map(opens).unwrap_or(0))
}

/// When the site is open on a date: as that day says, or else as its day of the week does.
fn open_on(hours: &Hours, date: Date) -> impl Iterator<Item = Stretch> {
    let number = date.year().unsigned_abs() as u32 * 10_000 + date.month() as u32 * 100 + date.day() as u32;
    let own = hours.days.iter().find(|day| day.date == number);
    let weekday = date.weekday().to_monday_zero_offset() as u8;
    let usual = hours.week.iter().filter(move |(day, _)| own.is_none() && day.0 == weekday);
    own.into_iter().flat_map(|day| day.open.iter().copied()).chain(usual.map(|(_, stretch)| *stretch))
}

/// Tells the desks that this node leads whether they are open, until the node is gone.
pub async fn watch(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        let sites: Vec<SiteId> = node.with_meta(|state| state.sites.keys().copied().collect()).unwrap_or_default();
        for site in sites {
            let Some(shard) = node.router.local(node.router.shard_of(Target::Desk(site))) else { continue };
            look(&shard, site);
        }
    }
}

fn look(shard: &Arc<Shard>, site: SiteId) {
    let Ok(Some((hours, told))) = shard.peek(|state, rows| state.hours(rows, site)) else { return };
    let closed = closed_until(&hours, now_ms());
    if closed != told && shard.serving().is_some() {
        // What becomes of it the next look shows: a shard without a quorum must not hold up the sites of others.
        shard.propose(&Command::Hours { site, closed }, ReplyTo::Nobody);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::desk::{Day, Weekday};

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    fn nine_to_six(zone: &str) -> Hours {
        let stretch = Stretch { from: 9 * 60, to: 18 * 60 };
        Hours { zone: zone.into(), week: (0..5).map(|day| (Weekday(day), stretch)).collect(), days: Vec::new() }
    }

    #[test]
    fn a_site_is_open_by_the_clocks_of_its_own_zone() {
        let hours = nine_to_six("Asia/Shanghai");
        // A Monday.
        assert_eq!(closed_until(&hours, at("2026-11-23T00:59:59Z")), Some(at("2026-11-23T01:00:00Z")));
        assert_eq!(closed_until(&hours, at("2026-11-23T01:00:00Z")), None);
        assert_eq!(closed_until(&hours, at("2026-11-23T09:59:59Z")), None);
        assert_eq!(closed_until(&hours, at("2026-11-23T10:00:00Z")), Some(at("2026-11-24T01:00:00Z")));
        // From Friday evening over the weekend.
        assert_eq!(closed_until(&hours, at("2026-11-27T12:00:00Z")), Some(at("2026-11-30T01:00:00Z")));
    }

    #[test]
    fn a_holiday_is_closed_and_a_day_of_its_own_has_its_own_hours() {
        let mut hours = nine_to_six("Europe/Berlin");
        hours.days = vec![
            Day { date: 20_261_225, open: Vec::new() },
            Day { date: 20_261_226, open: vec![Stretch { from: 600, to: 720 }] },
        ];
        assert_eq!(closed_until(&hours, at("2026-12-25T10:00:00Z")), Some(at("2026-12-26T09:00:00Z")));
        // A Saturday.
        assert_eq!(closed_until(&hours, at("2026-12-26T10:30:00Z")), None);
        assert_eq!(closed_until(&hours, at("2026-12-26T11:00:00Z")), Some(at("2026-12-28T08:00:00Z")));
    }

    #[test]
    fn the_clocks_go_forward_and_back_and_the_day_opens_at_nine() {
        let mut hours = nine_to_six("America/New_York");
        hours.week.push((Weekday(6), Stretch { from: 150, to: 18 * 60 }));
        // Summer time begins on Sunday, 8 March 2026, at 2 o'clock: half past two is not on the clock, and is three hours after midnight.
        assert_eq!(closed_until(&hours, at("2026-03-08T06:00:00Z")), Some(at("2026-03-08T07:30:00Z")));
        assert_eq!(closed_until(&hours, at("2026-03-09T00:00:00Z")), Some(at("2026-03-09T13:00:00Z")));
        // It ends on Sunday, 1 November 2026.
        assert_eq!(closed_until(&hours, at("2026-11-02T13:59:59Z")), Some(at("2026-11-02T14:00:00Z")));
    }

    #[test]
    fn a_site_that_never_opens_says_so_and_one_of_an_unknown_zone_is_open() {
        let never = Hours { zone: "UTC".into(), ..Hours::default() };
        assert_eq!(closed_until(&never, at("2026-11-23T00:00:00Z")), Some(0));
        let whole_day = vec![(Weekday(0), Stretch { from: 0, to: 1_440 })];
        assert_eq!(closed_until(&Hours { week: whole_day, ..never }, at("2026-11-23T23:59:59Z")), None);
        assert_eq!(closed_until(&nine_to_six("Mars/Olympus"), at("2026-11-22T00:00:00Z")), None);
        assert!(is_zone("Asia/Shanghai") && !is_zone("Mars/Olympus"));
    }
}
