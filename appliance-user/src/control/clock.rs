//! The two clocks that control reads: the monotonic one that heartbeats and events are stamped with, and the wall's, for
//! people.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock that the XDP program compares heartbeats with.
pub fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec as u64)
}

/// The wall's time at the monotonic instant `at`, given one moment's reading of both clocks.
pub fn wall_at(at: u64, monotonic_now: u64, wall_now: SystemTime) -> SystemTime {
    let back = Duration::from_nanos(monotonic_now.saturating_sub(at));
    wall_now.checked_sub(back).unwrap_or(wall_now)
}

/// RFC 3339 in UTC with milliseconds, such as `2026-03-01T12:00:00.250Z`. Times before 1970 are shown as 1970.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub SystemTime);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = civil_date(since.as_secs() / 86_400);
        let second = since.as_secs() % 86_400;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            since.subsec_millis()
        )
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day comes last and
/// a month's first day is a linear function of its number.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from `date -u -d @N +%FT%T`.
    #[test]
    fn known_instants() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), expected);
        }
    }

    #[test]
    fn an_instant_two_seconds_ago_is_two_seconds_before_now() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(
            wall_at(3_000_000_000, 5_000_000_000, now),
            UNIX_EPOCH + Duration::from_secs(98)
        );
        assert_eq!(wall_at(9, 5, now), now, "a stamp ahead of the reading is now");
    }
}
