//! Times and spans of the wire as texts.

use std::{sync::OnceLock, time::Duration};

use jiff::{Timestamp, tz::TimeZone};

/// RFC 3339 in UTC with microseconds; "" where it is not set or out of all reason.
pub(crate) fn rfc3339(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    time.map_or_else(String::new, |time| format!("{time:.6}"))
}

/// The same of microseconds since 1970; "" where that is out of all reason.
pub(crate) fn rfc3339_of_microseconds(microseconds: u64) -> String {
    let time = i64::try_from(microseconds).ok();
    let time = time.and_then(|time| Timestamp::from_microsecond(time).ok());
    time.map_or_else(String::new, |time| format!("{time:.6}"))
}

/// Whole microseconds; 0 for a negative span.
pub(crate) fn microseconds(span: &prost_types::Duration) -> u64 {
    let seconds = u64::try_from(span.seconds).unwrap_or_default();
    let nanos = u64::try_from(span.nanos).unwrap_or_default();
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

/// The time of day in the local time zone, with milliseconds: `14:03:59.125`. The text itself where it is no time.
pub(crate) fn time_of_day(rfc3339: &str) -> String {
    in_this_zone(rfc3339, "%H:%M:%S%.3f")
}

/// The same to the second, for what people wait for.
pub(crate) fn second_of_day(rfc3339: &str) -> String {
    in_this_zone(rfc3339, "%H:%M:%S")
}

fn in_this_zone(rfc3339: &str, format: &str) -> String {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let zone = ZONE.get_or_init(TimeZone::system);
    match rfc3339.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(zone.clone()).strftime(format).to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

/// A span for people: `850 µs`, `12.3 ms`, `4.1 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn span(span: Duration) -> String {
    let (seconds, micros) = (span.as_secs(), span.as_micros());
    match seconds {
        0 if micros < 1_000 => format!("{micros} µs"),
        0 => format!("{:.1} ms", span.as_secs_f64() * 1e3),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// An amount of data for people: `0 B`, `999 B`, `1.5 kB`, `12.0 MB`.
pub(crate) fn octets(amount: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if amount < 1_000 {
        return format!("{amount} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let mut rest = amount as f64 / 1_000.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while rest >= 999.95 && units.len() > 0 {
        rest /= 1_000.0;
        unit = units.next();
    }
    format!("{rest:.1} {}", unit.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_times_become_rfc_3339_with_microseconds() {
        let time = prost_types::Timestamp {
            seconds: 1_795_415_828,
            nanos: 123_456_789,
        };
        assert_eq!(rfc3339(Some(&time)), "2026-11-23T06:37:08.123456Z");
        let whole = prost_types::Timestamp { seconds: 0, nanos: 0 };
        assert_eq!(rfc3339(Some(&whole)), "1970-01-01T00:00:00.000000Z");
        let never = prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(rfc3339(Some(&never)), "");
        assert_eq!(rfc3339(None), "");
        assert_eq!(
            rfc3339_of_microseconds(1_795_415_828_123_456),
            "2026-11-23T06:37:08.123456Z"
        );
        assert_eq!(rfc3339_of_microseconds(u64::MAX), "");
    }

    #[test]
    fn what_is_no_time_is_shown_as_it_is() {
        assert_eq!(time_of_day(""), "");
        assert_eq!(
            time_of_day("2026-11-23T06:37:08.123456Z").len(),
            "08:37:08.123".len()
        );
    }

    #[test]
    fn spans_and_amounts_are_for_people() {
        let spans = [
            (0, "0 µs"),
            (850, "850 µs"),
            (12_340, "12.3 ms"),
            (4_100_000, "4.1 s"),
            (200_000_000, "3 min 20 s"),
        ];
        for (micros, text) in spans {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
        assert_eq!(span(Duration::from_secs(7_500)), "2 h 5 min");
        assert_eq!(span(Duration::from_secs(273_700)), "3 d 4 h");
        let amounts = [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
        ];
        for (amount, text) in amounts {
            assert_eq!(octets(amount), text);
        }
        assert_eq!(octets(u64::MAX), "18.4 EB");
    }

    #[test]
    fn a_negative_span_is_none() {
        assert_eq!(
            microseconds(&prost_types::Duration {
                seconds: -1,
                nanos: -5
            }),
            0
        );
        assert_eq!(
            microseconds(&prost_types::Duration {
                seconds: 1,
                nanos: 5_999
            }),
            1_000_005
        );
    }
}
