//! Instants of the wall clock, as they stand in the contracts and the database.
//!
//! Deliberately absent: reading a clock. Who needs "now" is given it.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An instant in UTC with millisecond resolution. Written as RFC 3339 in JSON, as a number in SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UtcTime(i64);

/// A text that is no instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no instant: expected RFC 3339, for example 2026-01-31T12:00:00Z")]
pub struct UtcTimeError(String);

impl UtcTime {
    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// From the system's clock reading.
    #[must_use]
    pub fn from_system(time: SystemTime) -> Self {
        let ms = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        Self(ms)
    }

    /// Later by this much.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// So long before.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            // Outside of the years that RFC 3339 can write: no clock reads so.
            None => write!(f, "9999-12-31T23:59:59Z"),
        }
    }
}

impl From<UtcTime> for String {
    fn from(time: UtcTime) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for UtcTime {
    type Error = UtcTimeError;
    fn try_from(text: String) -> Result<Self, UtcTimeError> {
        OffsetDateTime::parse(&text, &Rfc3339)
            .ok()
            .and_then(|time| i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok())
            .map(Self)
            .ok_or(UtcTimeError(text.chars().take(40).collect()))
    }
}

impl utoipa::PartialSchema for UtcTime {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)))
            .description(Some("An instant in UTC, RFC 3339."))
            .into()
    }
}

impl utoipa::ToSchema for UtcTime {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_round_trip_through_text() {
        for ms in [0, 1_700_000_000_123, -1] {
            let time = UtcTime::from_unix_ms(ms);
            assert_eq!(UtcTime::try_from(time.to_string()), Ok(time), "{time}");
        }
        assert!(UtcTime::try_from("yesterday".to_owned()).is_err());
        assert!(UtcTime::from_unix_ms(i64::MAX).to_string().starts_with("9999"));
    }

    #[test]
    fn durations_never_go_negative() {
        let (early, late) = (UtcTime::from_unix_ms(10), UtcTime::from_unix_ms(250));
        assert_eq!(late.since(early), Duration::from_millis(240));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.plus(Duration::from_millis(240)), late);
    }
}
