//! Times as people write them: RFC 3339, SQLite's `YYYY-MM-DD HH:MM:SS`, and milliseconds.
//!
//! Invariant: everything is UTC milliseconds since 1970 inside; `parse(&format(ms)) == ms`. Leap
//! seconds and years outside 0001..=9999 are left out.

const MS_PER_SECOND: i64 = 1_000;
const MS_PER_MINUTE: i64 = 60 * MS_PER_SECOND;
const MS_PER_HOUR: i64 = 60 * MS_PER_MINUTE;
const MS_PER_DAY: i64 = 24 * MS_PER_HOUR;

/// Milliseconds since 1970 of an RFC 3339 or SQLite time; `None` if it is neither, or earlier.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = parse_date(date)?;
    let in_day = if rest.is_empty() {
        0
    } else {
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        parse_time_of_day(rest)?
    };
    u64::try_from(days.checked_mul(MS_PER_DAY)?.checked_add(in_day)?).ok()
}

/// RFC 3339 in UTC with milliseconds, as `2026-01-31T23:59:59.123Z`.
pub(crate) fn format(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let (year, month, day) = civil(ms.div_euclid(MS_PER_DAY));
    let in_day = ms.rem_euclid(MS_PER_DAY);
    let (hour, minute) = (in_day / MS_PER_HOUR, in_day % MS_PER_HOUR / MS_PER_MINUTE);
    let (second, milli) = (in_day % MS_PER_MINUTE / MS_PER_SECOND, in_day % MS_PER_SECOND);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let year = digits(year, 4).filter(|year| *year > 0)?;
    let month = digits(month, 2).filter(|month| (1..=12).contains(month))?;
    let day = digits(day, 2).filter(|day| *day >= 1)?;
    let days = days_since_1970(year, month, day);
    // A day that the month does not have would silently mean one of the next month.
    (parts.next().is_none() && civil(days) == (year, month, day)).then_some(days)
}

fn parse_time_of_day(text: &str) -> Option<i64> {
    let (clock, offset) = split_offset(text)?;
    let (clock, fraction) = clock.split_once('.').map_or((clock, ""), |(c, f)| (c, f));
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second = parts.next().map_or(Some(0), |text| digits(text, 2).filter(|s| *s < 60))?;
    if parts.next().is_some() || (clock.len() < 8 && !fraction.is_empty()) {
        return None;
    }
    let at = hour * MS_PER_HOUR + minute * MS_PER_MINUTE + second * MS_PER_SECOND;
    Some(at + parse_fraction(fraction)? - offset)
}

/// Splits `12:00:00+02:00` into the clock and the offset in milliseconds; no offset means UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (clock, offset) = text.split_at_checked(at)?;
    let (sign, offset) = (if offset.starts_with('-') { -1 } else { 1 }, offset.get(1..)?);
    let (hours, minutes) = offset.split_once(':')?;
    let hours = digits(hours, 2).filter(|hours| *hours < 24)?;
    let minutes = digits(minutes, 2).filter(|minutes| *minutes < 60)?;
    Some((clock, sign * (hours * MS_PER_HOUR + minutes * MS_PER_MINUTE)))
}

/// Milliseconds of a fraction of a second; finer digits are cut off.
fn parse_fraction(text: &str) -> Option<i64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: String = text.chars().chain("000".chars()).take(3).collect();
    millis.parse().ok()
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let valid = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counting years from March so that the
/// leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of `days_since_1970`: year, month, day.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_spellings() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2001-09-09T01:46:40Z", 1_000_000_000_000),
            ("2001-09-09 01:46:40", 1_000_000_000_000),
            ("2001-09-09T03:46:40+02:00", 1_000_000_000_000),
            ("2001-09-08t20:16:40.5-05:30", 1_000_000_000_500),
            ("2001-09-09T01:46:40.123456Z", 1_000_000_000_123),
            ("2024-02-29", 1_709_164_800_000),
            ("2024-02-29 12:30", 1_709_209_800_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_time() {
        let cases = [
            "",
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-01-32",
            "0000-01-01",
            "1969-12-31T23:59:59Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01T00:00:00.x",
            "2024-01-01T00:00:00+2",
            "2024-01-01X00:00:00",
            "2024-01-01T",
            "20240101",
            "\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}",
            "2024-1-01",
            "2024-01-01-01",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut ms = 0_u64;
        while ms < 300_000_000_000_000 / 8 {
            assert_eq!(parse(&format(ms)), Some(ms), "{}", format(ms));
            ms += 86_400_000 * 17 + 3_601_007;
        }
        assert_eq!(format(1_000_000_000_123), "2001-09-09T01:46:40.123Z");
    }
}
