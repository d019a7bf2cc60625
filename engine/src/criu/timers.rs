//! Keeps periodic timers of `timerfd_create(2)` going.
//!
//! The kernel sets such a timer anew when its expiry is read, and not before. While a service stands still nobody reads, so a
//! timer with a period shorter than the pause is found expired, with no time left; CRIU writes that down, and a timer that is set to no time
//! is a stopped one: after the restore it would never tick again. Here it is given the shortest time there is.

use std::path::Path;

use super::entries::{Field, Value, edit, fields, message, number};
use crate::error::Result;

/// `tfd` in CRIU's `file_entry`.
const TIMER: u64 = 12;
/// In CRIU's `timerfd_entry`: expiries that nobody has read.
const TICKS: u64 = 5;
/// Time left, seconds and nanoseconds.
const LEFT: [u64; 2] = [7, 8];
/// The period.
const PERIOD: [u64; 2] = [9, 10];

/// Mends the timers in a folder of CRIU's images.
pub fn keep_timers(images: &Path) -> Result<()> {
    edit(&images.join("files.img"), "keep the timers", |file| {
        let mut fields = fields(file)?;
        for field in fields.iter_mut().filter(|field| field.number == TIMER) {
            if let Value::Bytes(timer) = &mut field.value {
                *timer = kept(timer)?;
            }
        }
        Some(message(fields))
    })
}

/// The timer, to expire at once if it has a period, has expired, and would be stopped.
fn kept(timer: &[u8]) -> Option<Vec<u8>> {
    let mut fields = fields(timer)?;
    let any = |fields: &[Field], of: &[u64]| of.iter().any(|n| number(fields, *n).is_some_and(|n| n > 0));
    if !any(&fields, &[TICKS]) || !any(&fields, &PERIOD) || any(&fields, &LEFT) {
        return Some(timer.to_vec());
    }
    for field in fields.iter_mut().filter(|field| field.number == LEFT[1]) {
        field.value = Value::Number(1);
    }
    Some(message(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(ticks: u64, left: [u64; 2], period: [u64; 2]) -> Vec<u8> {
        let numbers = [
            (1, 3),
            (TICKS, ticks),
            (LEFT[0], left[0]),
            (LEFT[1], left[1]),
            (PERIOD[0], period[0]),
            (PERIOD[1], period[1]),
        ];
        message(numbers.map(|(number, value)| Field { number, value: Value::Number(value) }))
    }

    #[test]
    fn only_a_periodic_timer_that_would_stop_is_touched() {
        assert_eq!(kept(&timer(1, [0, 0], [0, 5])), Some(timer(1, [0, 1], [0, 5])));
        for untouched in [
            timer(0, [0, 0], [0, 5]), // stopped by its owner
            timer(1, [0, 0], [0, 0]), // once only, and that was it
            timer(0, [2, 0], [2, 0]),
            timer(1, [0, 3], [1, 0]),
        ] {
            assert_eq!(kept(&untouched), Some(untouched.clone()));
        }
        assert_eq!(kept(&[0xff]), None);
    }
}
