//! How long ago something was: as people write and read it.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

/// How long ago something was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age(pub(super) SignedDuration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || "give a number and a unit: s, m, h or d, such as 30d".to_owned();
        let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(error()),
        };
        let number = number
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= 0)
            .ok_or_else(error)?;
        number
            .checked_mul(seconds)
            .map(SignedDuration::from_secs)
            .map(Self)
            .ok_or_else(error)
    }
}

/// Writes how long ago a time was.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    duration(now.duration_since(since).as_secs_f64().max(0.0))
}

/// Writes a number of seconds in its largest unit.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 100.0 => format!("{seconds:.0} s"),
        _ if seconds < 6_000.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 360_000.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_unit() {
        assert_eq!("30d".parse(), Ok(Age(SignedDuration::from_hours(720))));
        assert_eq!("15m".parse(), Ok(Age(SignedDuration::from_mins(15))));
        for bad in ["", "30", "d", "-1d", "1.5h", "9999999999999999d", "3é"] {
            assert!(bad.parse::<Age>().unwrap_err().contains("such as 30d"), "{bad}");
        }
    }

    #[test]
    fn a_duration_has_its_largest_unit() {
        let shown = [0.4, 99.0, 100.0, 7_200.0, 400_000.0].map(duration);
        assert_eq!(shown, ["0 s", "99 s", "2 min", "2 h", "5 d"]);
    }
}
