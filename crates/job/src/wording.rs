//! How numbers, sizes, spans and dates look to people.

use rivermark_types::Timestamp;
use std::time::Duration;

/// `336,776`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `336,776 records`.
pub fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `512 B`, `41 KB`, `1.2 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// `12 ms`, `4.1 s`, `3 min 20 s`.
pub fn span(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms => {
            let seconds = ms / 1000;
            match seconds / 60 {
                minutes @ 0..60 => format!("{minutes} min {} s", seconds % 60),
                minutes => format!("{} h {} min", minutes / 60, minutes % 60),
            }
        }
    }
}

/// `2013-07-22 20:00:00`, in UTC; `-` before all time, `end` behind it.
pub fn date(time: Timestamp) -> String {
    match time {
        Timestamp::MIN => return "-".to_owned(),
        Timestamp::MAX => return "end".to_owned(),
        _ => {}
    }
    let (days, ms) = (time.0.div_euclid(86_400_000), time.0.rem_euclid(86_400_000));
    let seconds = ms / 1000;
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar. Years begin in March here, so that the
/// day that leap years add is their last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 336_776, 1_000_000].map(count),
            ["0", "999", "1,000", "336,776", "1,000,000"]
        );
    }

    #[test]
    fn sizes_have_two_digits_or_three() {
        let sizes = [
            0,
            999,
            1000,
            9949,
            9950,
            41_234,
            999_400,
            999_600,
            1_200_000,
            5_000_000_000,
        ];
        let words = [
            "0 B", "999 B", "1.0 KB", "9.9 KB", "10 KB", "41 KB", "999 KB", "1.0 MB", "1.2 MB", "5.0 GB",
        ];
        assert_eq!(sizes.map(size), words);
    }

    #[test]
    fn spans_use_the_unit_that_fits() {
        let spans = [12, 4_150, 59_999, 200_000, 3_660_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(spans, ["12 ms", "4.1 s", "59.9 s", "3 min 20 s", "1 h 1 min"]);
    }

    #[test]
    fn dates_follow_the_calendar() {
        let dates =
            [0, 1_374_523_200_000, 951_782_400_000, 1_709_251_199_000, -1].map(|ms| date(Timestamp(ms)));
        assert_eq!(
            dates,
            [
                "1970-01-01 00:00:00",
                "2013-07-22 20:00:00",
                "2000-02-29 00:00:00",
                "2024-02-29 23:59:59",
                "1969-12-31 23:59:59"
            ]
        );
        assert_eq!(
            (date(Timestamp::MIN).as_str(), date(Timestamp::MAX).as_str()),
            ("-", "end")
        );
    }
}
