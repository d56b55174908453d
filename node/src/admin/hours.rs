//! Owns the hours of a site as administrators see and set them. Does not know the calendar. Invariant: what is read back is what was set.

use super::problem::Problem;
use proto::desk::{Day, Hours, Stretch, Weekday};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When a site gives conversations to agents, by the clocks of a place.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoursView {
    /// A name of the IANA time zone database.
    #[schema(min_length = 1, max_length = 256, example = "Asia/Shanghai")]
    pub zone: String,
    /// A usual week; what goes on over midnight is two entries.
    #[serde(default)]
    pub week: Vec<OpenOn>,
    /// Days with hours of their own; a holiday has none.
    #[serde(default)]
    pub days: Vec<DayView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenOn {
    #[schema(pattern = "^(mon|tue|wed|thu|fri|sat|sun)$", example = "mon")]
    pub day: String,
    #[schema(pattern = "^[0-9]{2}:[0-9]{2}$", example = "09:00")]
    pub from: String,
    /// 24:00 is the end of the day.
    #[schema(pattern = "^[0-9]{2}:[0-9]{2}$", example = "18:00")]
    pub to: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DayView {
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", example = "2026-12-25")]
    pub date: String,
    #[serde(default)]
    pub open: Vec<StretchView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StretchView {
    #[schema(pattern = "^[0-9]{2}:[0-9]{2}$", example = "10:00")]
    pub from: String,
    #[schema(pattern = "^[0-9]{2}:[0-9]{2}$", example = "14:00")]
    pub to: String,
}

impl HoursView {
    pub fn of(hours: Hours) -> HoursView {
        let open_on = |(day, stretch): (Weekday, Stretch)| OpenOn {
            day: DAYS[usize::from(day.0.min(6))].to_owned(),
            from: time(stretch.from),
            to: time(stretch.to),
        };
        let day = |day: Day| {
            let (year, month, date) = (day.date / 10_000, day.date / 100 % 100, day.date % 100);
            let stretch = |one: Stretch| StretchView { from: time(one.from), to: time(one.to) };
            let open = day.open.into_iter().map(stretch).collect();
            DayView { date: format!("{year:04}-{month:02}-{date:02}"), open }
        };
        HoursView {
            zone: hours.zone,
            week: hours.week.into_iter().map(open_on).collect(),
            days: hours.days.into_iter().map(day).collect(),
        }
    }

    /// # Errors
    /// 422: a day, a date, a time or the zone is none.
    pub fn hours(self) -> Result<Hours, Problem> {
        if !crate::hours::is_zone(&self.zone) {
            return Err(Problem::refused("hours.zone: there is no such time zone"));
        }
        let mut week = Vec::with_capacity(self.week.len());
        for OpenOn { day, from, to } in self.week {
            let Some(day) = DAYS.iter().position(|name| *name == day) else {
                return Err(Problem::refused("hours.week: a day is one of mon tue wed thu fri sat sun"));
            };
            week.push((Weekday(day as u8), stretch(&from, &to)?));
        }
        week.sort_unstable();
        let mut days = Vec::with_capacity(self.days.len());
        for DayView { date, open } in self.days {
            let date = date_of(&date).ok_or_else(|| Problem::refused("hours.days: a date is written 2026-12-25"))?;
            let mut open = open.iter().map(|one| stretch(&one.from, &one.to)).collect::<Result<Vec<_>, _>>()?;
            open.sort_unstable();
            days.push(Day { date, open });
        }
        days.sort_unstable_by_key(|day| day.date);
        Ok(Hours { zone: self.zone, week, days })
    }
}

fn time(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn stretch(from: &str, to: &str) -> Result<Stretch, Problem> {
    match (minute_of(from), minute_of(to)) {
        (Some(from), Some(to)) if from < to => Ok(Stretch { from, to }),
        _ => Err(Problem::refused("hours: from and to are times of one day, from 00:00 to 24:00, from before to")),
    }
}

fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && hour * 60 + minute <= 1_440).then(|| hour * 60 + minute)
}

fn date_of(text: &str) -> Option<u32> {
    let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
    let year = u32::try_from(date.year()).ok()?;
    Some(year * 10_000 + date.month() as u32 * 100 + date.day() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(json: &str) -> Result<Hours, Problem> {
        serde_json::from_str::<HoursView>(json).unwrap().hours()
    }

    #[test]
    fn hours_that_were_set_read_back() {
        let json = r#"{"zone":"UTC","week":[{"day":"mon","from":"09:00","to":"24:00"}],"days":[{"date":"2026-12-25","open":[]},{"date":"2026-12-31","open":[{"from":"10:00","to":"14:30"}]}]}"#;
        let hours = set(json).ok().unwrap();
        assert_eq!(hours.week, [(Weekday(0), Stretch { from: 540, to: 1_440 })]);
        assert_eq!(serde_json::to_string(&HoursView::of(hours)).unwrap(), json);
    }

    #[test]
    fn what_is_no_time_day_date_or_zone_is_refused() {
        for (zone, day, from, to, date) in [
            ("Mars/Olympus", "mon", "09:00", "18:00", "2026-12-25"),
            ("UTC", "Monday", "09:00", "18:00", "2026-12-25"),
            ("UTC", "mon", "9:00", "18:00", "2026-12-25"),
            ("UTC", "mon", "09:60", "18:00", "2026-12-25"),
            ("UTC", "mon", "+9:00", "18:00", "2026-12-25"),
            ("UTC", "mon", "09:00", "24:01", "2026-12-25"),
            ("UTC", "mon", "18:00", "09:00", "2026-12-25"),
            ("UTC", "mon", "09:00", "18:00", "2026-02-30"),
            ("UTC", "mon", "09:00", "18:00", "20261225"),
        ] {
            let json = format!(
                r#"{{"zone":"{zone}","week":[{{"day":"{day}","from":"{from}","to":"{to}"}}],"days":[{{"date":"{date}"}}]}}"#
            );
            assert!(set(&json).is_err(), "{json}");
        }
    }
}
