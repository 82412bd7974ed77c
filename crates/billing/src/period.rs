//! Borders of billing periods, in the tenant's time zone.
//!
//! A month is what the tenant's calendar calls one, of 28 to 31 days of 23 to 25 hours. Every border is computed from the anchor, never from the
//! border before it: who began on a 31st has the last day of short months, and the 31st again after.
//! Deliberately absent: the zone of this machine; rules of zones are compiled in, so that every machine has the same borders.

use std::fmt;

use api::clock::UtcTime;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// A time zone of the IANA database.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

/// Why there is no period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// Not in the database. Use a name as `Europe/Berlin`.
    #[error("`{0}` is no time zone: expected a name of the IANA database, for example Europe/Berlin or UTC")]
    Zone(String),
    /// Outside of the years that a calendar can count. Look at the clock of whoever wrote the instant.
    #[error("{0} is outside of the calendar")]
    Range(UtcTime),
}

impl Zone {
    /// Coordinated universal time.
    #[must_use]
    pub const fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// By its name in the IANA database.
    ///
    /// # Errors
    /// Not in the database.
    pub fn named(name: &str) -> Result<Zone, PeriodError> {
        let error = |_not_found| PeriodError::Zone(name.chars().take(60).collect());
        jiff::tz::TimeZoneDatabase::bundled().get(name).map(Zone).map_err(error)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Year, month and day there, as people write it: `2026-01-31`.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn date(&self, at: UtcTime) -> Result<String, PeriodError> {
        Ok(self.local(at)?.date().to_string())
    }

    /// Date and time there, to the second: `2026-01-31 12:00:00`.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn date_time(&self, at: UtcTime) -> Result<String, PeriodError> {
        Ok(self.local(at)?.strftime("%Y-%m-%d %H:%M:%S").to_string())
    }

    fn local(&self, at: UtcTime) -> Result<DateTime, PeriodError> {
        let timestamp = Timestamp::from_millisecond(at.unix_ms()).map_err(|_range| PeriodError::Range(at))?;
        Ok(self.0.to_datetime(timestamp))
    }

    /// The instant at which clocks there show this. A time that clocks leap over is as much later as they leap; one that they show twice is the
    /// first of both.
    fn instant(&self, local: DateTime) -> Option<UtcTime> {
        let timestamp = self.0.to_ambiguous_timestamp(local).compatible().ok()?;
        Some(UtcTime::from_unix_ms(timestamp.as_millisecond()))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

impl TryFrom<String> for Zone {
    type Error = PeriodError;
    fn try_from(name: String) -> Result<Zone, PeriodError> {
        Zone::named(&name)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.name().to_owned()
    }
}

/// How long a period is, by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cadence {
    /// From a time of day to the same on the next day: 23 to 25 hours.
    Day,
    /// Seven days.
    Week,
    /// To the same day of the next month, or its last.
    Month,
    /// Three months.
    Quarter,
    /// Twelve months.
    Year,
}

impl Cadence {
    fn span(self, count: i64) -> Option<Span> {
        match self {
            Cadence::Day => Span::new().try_days(count).ok(),
            Cadence::Week => Span::new().try_weeks(count).ok(),
            Cadence::Month => Span::new().try_months(count).ok(),
            Cadence::Quarter => Span::new().try_months(count.checked_mul(3)?).ok(),
            Cadence::Year => Span::new().try_years(count).ok(),
        }
    }

    /// About so long: a first guess, which is corrected.
    const fn about_ms(self) -> i64 {
        const DAY: i64 = 86_400_000;
        match self {
            Cadence::Day => DAY,
            Cadence::Week => 7 * DAY,
            Cadence::Month => 30 * DAY,
            Cadence::Quarter => 91 * DAY,
            Cadence::Year => 365 * DAY,
        }
    }
}

/// From one border until before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// First moment.
    pub from: UtcTime,
    /// First moment after.
    pub to: UtcTime,
}

impl Period {
    /// How long, in milliseconds.
    #[must_use]
    pub fn ms(&self) -> i64 {
        self.to.unix_ms().saturating_sub(self.from.unix_ms())
    }

    /// True of moments in it.
    #[must_use]
    pub fn contains(&self, at: UtcTime) -> bool {
        self.from <= at && at < self.to
    }

    /// What both have in common; `None` when that is nothing.
    #[must_use]
    pub fn overlap(&self, other: Period) -> Option<Period> {
        let shared = Period { from: self.from.max(other.from), to: self.to.min(other.to) };
        (shared.from < shared.to).then_some(shared)
    }
}

/// Periods without gaps, in both directions from an anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    zone: Zone,
    cadence: Cadence,
    anchor: DateTime,
    anchored: UtcTime,
}

impl Schedule {
    /// Periods of which one begins at `anchor`, and all others at its time of day, in the zone.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn anchored(zone: &Zone, cadence: Cadence, anchor: UtcTime) -> Result<Schedule, PeriodError> {
        Ok(Schedule { zone: zone.clone(), cadence, anchor: zone.local(anchor)?, anchored: anchor })
    }

    /// Months of the calendar, which begin when the first of a month does in the zone.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn calendar_months(zone: &Zone, near: UtcTime) -> Result<Schedule, PeriodError> {
        let anchor = zone.local(near)?.date().first_of_month().at(0, 0, 0, 0);
        let anchored = zone.instant(anchor).ok_or(PeriodError::Range(near))?;
        Ok(Schedule { zone: zone.clone(), cadence: Cadence::Month, anchor, anchored })
    }

    /// Where period number `index` begins; 0 begins at the anchor.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn border(&self, index: i64) -> Result<UtcTime, PeriodError> {
        if index == 0 {
            // Its time of day may be one that clocks show twice, of which the anchor says which.
            return Ok(self.anchored);
        }
        let local = self.cadence.span(index).and_then(|span| self.anchor.checked_add(span).ok());
        local.and_then(|local| self.zone.instant(local)).ok_or(PeriodError::Range(self.anchored))
    }

    /// Period number `index`. Empty where the zone left out the whole of it, as Samoa did with a day.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn period(&self, index: i64) -> Result<Period, PeriodError> {
        Ok(Period { from: self.border(index)?, to: self.border(index + 1)? })
    }

    /// The period in which a moment is, and its number.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn containing(&self, at: UtcTime) -> Result<(i64, Period), PeriodError> {
        let apart = at.unix_ms().checked_sub(self.anchored.unix_ms()).ok_or(PeriodError::Range(at))?;
        let mut index = apart.div_euclid(self.cadence.about_ms());
        // The guess is wrong by a day a month at most; each step mends one period.
        while self.border(index)? > at {
            index -= 1;
        }
        loop {
            let period = self.period(index)?;
            if period.contains(at) {
                return Ok((index, period));
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> UtcTime {
        UtcTime::try_from(text.to_owned()).unwrap()
    }

    /// Borders from `first` on, written in the zone's time.
    fn check(zone: &str, cadence: Cadence, anchor: &str, first: i64, expected: &[&str]) {
        let zone = Zone::named(zone).unwrap();
        let schedule = Schedule::anchored(&zone, cadence, at(anchor)).unwrap();
        let borders: Vec<String> = (first..)
            .take(expected.len())
            .map(|index| zone.date_time(schedule.border(index).unwrap()).unwrap())
            .collect();
        assert_eq!(borders, expected);
    }

    #[test]
    fn borders_follow_the_calendar() {
        check(
            "UTC",
            Cadence::Month,
            "2024-01-31T12:00:00Z",
            -1,
            &[
                "2023-12-31 12:00:00",
                "2024-01-31 12:00:00",
                "2024-02-29 12:00:00",
                "2024-03-31 12:00:00",
                "2024-04-30 12:00:00",
            ],
        );
        check(
            "Europe/Berlin",
            Cadence::Day,
            "2026-03-28T01:30:00Z",
            0,
            // 02:30 does not exist on the 29th.
            &["2026-03-28 02:30:00", "2026-03-29 03:30:00", "2026-03-30 02:30:00"],
        );
        check("UTC", Cadence::Year, "2024-02-29T00:00:00Z", 0, &["2024-02-29 00:00:00", "2025-02-28 00:00:00"]);
        check("UTC", Cadence::Year, "2024-02-29T00:00:00Z", 4, &["2028-02-29 00:00:00"]);
        check(
            "UTC",
            Cadence::Quarter,
            "2023-11-30T00:00:00Z",
            0,
            &["2023-11-30 00:00:00", "2024-02-29 00:00:00", "2024-05-30 00:00:00"],
        );
        check(
            "America/New_York",
            Cadence::Week,
            "2026-03-05T17:00:00Z",
            0,
            &["2026-03-05 12:00:00", "2026-03-12 12:00:00"],
        );
    }

    #[test]
    fn days_have_23_to_25_hours() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let hours = |day: &str| {
            let schedule = Schedule::anchored(&zone, Cadence::Day, at("2025-12-31T23:00:00Z")).unwrap();
            schedule.containing(at(day)).unwrap().1.ms() / 3_600_000
        };
        assert_eq!(hours("2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours("2026-10-25T12:00:00Z"), 25);
        assert_eq!(hours("2026-07-01T12:00:00Z"), 24);
        let months = Schedule::calendar_months(&zone, at("2026-03-15T00:00:00Z")).unwrap();
        assert_eq!(months.period(0).unwrap().from, at("2026-02-28T23:00:00Z"));
        assert_eq!(months.period(0).unwrap().ms(), (31 * 24 - 1) * 3_600_000);
    }

    #[test]
    fn a_day_that_never_was_is_empty() {
        let zone = Zone::named("Pacific/Apia").unwrap();
        let days = Schedule::anchored(&zone, Cadence::Day, at("2011-12-28T10:00:00Z")).unwrap();
        let lengths: Vec<i64> = (0..5).map(|index| days.period(index).unwrap().ms() / 3_600_000).collect();
        assert_eq!(lengths, [24, 24, 0, 24, 24]);
        assert_eq!(days.containing(at("2011-12-30T10:00:00Z")).unwrap().0, 3);
    }

    #[test]
    fn an_anchor_in_the_hour_that_comes_twice_is_kept() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        for anchor in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"] {
            let months = Schedule::anchored(&zone, Cadence::Month, at(anchor)).unwrap();
            assert_eq!(months.containing(at(anchor)).unwrap(), (0, months.period(0).unwrap()));
            assert_eq!(months.period(0).unwrap().from, at(anchor));
        }
    }

    #[test]
    fn zones_are_those_of_the_database() {
        for (name, is_good) in
            [("Europe/Berlin", true), ("UTC", true), ("Asia/Kolkata", true), ("Mars/Base", false), ("", false)]
        {
            let zone = Zone::named(name);
            assert_eq!(zone.is_ok(), is_good, "{name}");
            if let Ok(zone) = zone {
                let text = serde_json::to_string(&zone).unwrap();
                assert_eq!(serde_json::from_str::<Zone>(&text).unwrap(), zone);
                assert_eq!(zone.name(), name);
            }
        }
        let outside = UtcTime::from_unix_ms(i64::MAX);
        assert!(Schedule::anchored(&Zone::utc(), Cadence::Day, outside).is_err());
    }

    proptest! {
        #[test]
        fn every_moment_is_in_one_period(
            anchor in 0..4_000_000_000_000_i64,
            moment in 0..4_000_000_000_000_i64,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]),
            cadence in prop::sample::select(vec![Cadence::Day, Cadence::Week, Cadence::Month, Cadence::Quarter, Cadence::Year]),
        ) {
            let zone = Zone::named(zone).unwrap();
            let (anchor, moment) = (UtcTime::from_unix_ms(anchor), UtcTime::from_unix_ms(moment));
            let schedule = Schedule::anchored(&zone, cadence, anchor).unwrap();
            let (index, period) = schedule.containing(moment).unwrap();
            prop_assert!(period.contains(moment));
            prop_assert_eq!(schedule.period(index - 1).unwrap().to, period.from);
            prop_assert_eq!(schedule.period(index + 1).unwrap().from, period.to);
        }
    }
}
