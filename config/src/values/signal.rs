//! Signals by name or number.
//!
//! The numbers are Linux's on all architectures but Alpha, MIPS, PA-RISC and SPARC, where we do not run.

use toml::de::DeValue;

use super::{integer, text};
use crate::near::nearest;
use crate::read::Cell;

/// Name and number of each signal that has a name.
const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMAX", 64),
];

/// The C library keeps 32 and 33 to itself, so real-time signals begin here.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A signal's number.
pub(crate) fn signal(cell: &Cell<'_>) -> Option<i32> {
    const FORM: &str = "write a name as `\"TERM\"` or `\"SIGTERM\"`, or a number from 1 to 64";
    match cell.value() {
        DeValue::Integer(_) => {
            let number = integer(cell.value()).and_then(|number| i32::try_from(number).ok()).filter(in_range);
            number.or_else(|| cell.fault("there is no signal of this number", FORM))
        }
        DeValue::String(_) => {
            let written = text(cell)?;
            let found = by_name(&written);
            if found.is_none() {
                let bare = bare(&written);
                let hint = nearest(&bare, NAMES.iter().map(|(name, _)| *name))
                    .map_or_else(|| FORM.to_owned(), |near| format!("did you mean `{near}`?"));
                return cell.fault("there is no signal of this name", hint);
            }
            found
        }
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => cell.mistyped("a signal", FORM),
    }
}

fn bare(written: &str) -> String {
    let upper = written.trim().to_ascii_uppercase();
    upper.strip_prefix("SIG").map_or(upper.clone(), str::to_owned)
}

fn by_name(written: &str) -> Option<i32> {
    let name = bare(written);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<i32>().ok()? };
        return RTMIN.checked_add(offset).filter(|number| (RTMIN..=RTMAX).contains(number));
    }
    name.parse().ok().filter(in_range)
}

fn in_range(number: &i32) -> bool {
    (1..=RTMAX).contains(number)
}

#[cfg(test)]
mod tests {
    use super::by_name;

    #[test]
    fn names_and_numbers() {
        let right = [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("9", 9),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
        ];
        for (written, number) in right {
            assert_eq!(by_name(written), Some(number), "{written}");
        }
        for wrong in ["", "SIG", "TREM", "0", "65", "-9", "RTMIN-1", "RTMIN+31", "RTMIN+2147483647"] {
            assert_eq!(by_name(wrong), None, "{wrong}");
        }
    }
}
