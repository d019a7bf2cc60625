//! Names of images. They sort by time, and so do the images of a service, whatever the clock does: one that was set back, or is behind that
//! of the node that had the service before, would make an older image the newest.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::error::Report;
use policies::id::ImageId;
use policies::time::WallTime;

/// Between two images of which the clock says that they were taken the wrong way round.
const STEP: Duration = Duration::from_micros(1);
/// Of a time as names have it: `20261126T175859.196645Z`.
const STAMP_LENGTH: usize = 23;

/// This moment, as images have it.
pub(crate) fn now() -> WallTime {
    wall_time(engine::clock::wall())
}

/// A time of the system's clock, as images have it.
pub(crate) fn wall_time(time: SystemTime) -> WallTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A name for an image that is taken now, after all of these. The tail keeps two nodes of one microsecond apart.
pub(crate) fn image_id(others: &BTreeSet<ImageId>) -> engine::Result<ImageId> {
    let newest = others.iter().filter_map(time_of).max();
    let after = newest.map(|newest| UNIX_EPOCH + Duration::from_nanos(newest.as_unix_nanos()) + STEP);
    let now = engine::clock::wall();
    let at = after.map_or(now, |after| after.max(now));
    let stamp = humantime::format_rfc3339_micros(at).to_string();
    let stamp: String = stamp.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let drawn = wall_time(now).as_unix_nanos() ^ (u64::from(std::process::id()) << 32);
    let tail = drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
    ImageId::try_from(format!("{stamp}-{tail:04x}").as_str())
        .map_err(|e| engine::Error::Internal(Report::new("name an image").because(e)))
}

/// The time in a name of ours; others may be named in any way.
pub(crate) fn time_of(id: &ImageId) -> Option<WallTime> {
    let (date, time) = id.as_str().get(..STAMP_LENGTH)?.split_once('T')?;
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    let written = format!("{year}-{month}-{day}T{hour}:{minute}:{second}");
    humantime::parse_rfc3339(&written).ok().map(wall_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ImageId {
        ImageId::try_from(text).expect("an id")
    }

    #[test]
    fn a_name_says_when() {
        let named = image_id(&BTreeSet::new()).expect("a name");
        let at = time_of(&named).expect("a time");
        assert!(now().since(at) < Duration::from_secs(60), "{named}");
        assert_eq!(
            time_of(&id("20261126T175859.196645Z-2614")).map(WallTime::as_unix_nanos),
            Some(1_795_715_939_196_645_000)
        );
        for other in ["i1", "20261326T175859.196645Z-2614", "20261126-175859.196645Z-2614"] {
            assert_eq!(time_of(&id(other)), None, "{other}");
        }
    }

    #[test]
    fn what_is_taken_later_sorts_later_though_the_clock_was_set_back() {
        let newest = id("20991231T235959.999999Z-ffff");
        let others = [id("zzz"), id("20260101T000000.000000Z-0000"), newest.clone()].into();
        let later = image_id(&others).expect("a name");
        assert!(later > newest && later.as_str().starts_with("21000101T000000.000000Z-"), "{later}");
    }
}
