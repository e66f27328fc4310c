//! Dates as HTTP and Debian's releases write them: `Sun, 06 Nov 1994 08:49:37 GMT`. Pure.

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Seconds since 1970 of such a date in universal time, by any of its names; `None` for whatever else. The name of the day is not looked at.
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(',')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [day, month, year, clock, "UTC" | "GMT" | "+0000" | "Z"] = words.as_slice() else {
        return None;
    };
    let day = number(day, 1, 31)?;
    let month = MONTHS.iter().position(|name| name == month)? as u64 + 1;
    let year = number(year, 1970, 9999)?;
    let clock: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = clock.as_slice() else {
        return None;
    };
    // Some minutes had 61.
    let (hour, minute, second) = (
        number(hour, 0, 23)?,
        number(minute, 0, 59)?,
        number(second, 0, 60)?,
    );
    // The year begins in March, so that the odd day is its last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = (365 * year + leaps + (153 * month + 2) / 5 + day).checked_sub(719_469)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn number(text: &str, least: u64, most: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits)?;
    (least..=most).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_universal_time_or_none() {
        for (text, want) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sat, 11 Jul 2026 10:16:37 UTC", Some(1_783_764_997)),
            ("Sat, 11 Jul 2026  9:06:07 Z", Some(1_783_760_767)),
            ("Tue, 29 Feb 2000 23:59:59 +0000", Some(951_868_799)),
            ("Sat, 11 Jul 2026 10:16:37 CEST", None),
            ("Sat, 11 Jul 2026 10:16:37", None),
            ("Sat, 11 Jul 2026 10:16:37 UTC more", None),
            ("Sat, 11 Jul 2026 10:16:37:01 UTC", None),
            ("Sat, 11 Jul 2026 10:16 UTC", None),
            ("Sat, 11 Jul 2026 +1:16:37 UTC", None),
            ("Sat, 32 Jul 2026 10:16:37 UTC", None),
            ("Sat, 00 Jul 2026 10:16:37 UTC", None),
            ("Sat, 11 Jul 1969 10:16:37 UTC", None),
            ("11 Jul 2026", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), want, "{text}");
        }
    }
}
