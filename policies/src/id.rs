//! Names and numbers that things are known by. A value of these types is valid: there is no other way to get one.

use std::fmt;

/// The most characters a service's name may have: it becomes a folder, a cgroup and a label.
pub const SERVICE_NAME_LEN_MAX: usize = 63;

/// The most characters an image's id may have.
pub const IMAGE_ID_LEN_MAX: usize = 128;

/// The most characters a node's name may have.
pub const NODE_NAME_LEN_MAX: usize = 253;

/// What a service is called: `[a-z0-9][a-z0-9_.-]{0,62}`, fit for a folder, a cgroup and a host label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

/// What an image is called; ids of one service sort by the time of taking.
///
/// Opaque to everything here; made by the engine, for example `20261122T195751.123456Z-1f3a`. Letters, digits and
/// `_.-+`, not beginning with a dot or dash, so that it can be a folder's name and never an option or a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(String);

/// What a node is called: letters, digits and `_.-`, beginning with a letter or digit; at most 253 characters, as a host's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

/// The number of one command that waits for an answer; every answer bears it. Grows, never repeats in one life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// The number that grows with each new holder of a service's lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Why a text is no name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidId {
    /// It has no characters.
    Empty,
    /// It has more characters than allowed.
    TooLong {
        /// Characters found.
        len: usize,
        /// Characters allowed.
        len_max: usize,
    },
    /// It begins with something that only may stand further on, or nowhere.
    BadStart(char),
    /// It contains something that may not stand in it.
    BadCharacter {
        /// The character.
        character: char,
        /// Its place, in characters, from 0.
        position: usize,
        /// What may stand there, for people.
        allowed: &'static str,
    },
}

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ImageId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Attempt {
    /// The attempt after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Epoch {
    /// The epoch of the next holder.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = InvalidId;

    fn try_from(text: &str) -> Result<Self, InvalidId> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let allowed = "lower case letters, digits, '_', '.' and '-'";
        check(text, SERVICE_NAME_LEN_MAX, plain, |c| plain(c) || "_.-".contains(c), allowed)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<&str> for ImageId {
    type Error = InvalidId;

    fn try_from(text: &str) -> Result<Self, InvalidId> {
        let plain = |c: char| c.is_ascii_alphanumeric();
        let allowed = "letters, digits, '_', '.', '-' and '+'";
        check(text, IMAGE_ID_LEN_MAX, plain, |c| plain(c) || "_.-+".contains(c), allowed)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<&str> for NodeName {
    type Error = InvalidId;

    fn try_from(text: &str) -> Result<Self, InvalidId> {
        let plain = |c: char| c.is_ascii_alphanumeric();
        let allowed = "letters, digits, '_', '.' and '-'";
        check(text, NODE_NAME_LEN_MAX, plain, |c| plain(c) || "_.-".contains(c), allowed)?;
        Ok(Self(text.to_owned()))
    }
}

fn check(
    text: &str,
    len_max: usize,
    may_start: impl Fn(char) -> bool,
    may_follow: impl Fn(char) -> bool,
    allowed: &'static str,
) -> Result<(), InvalidId> {
    let first = text.chars().next().ok_or(InvalidId::Empty)?;
    if let Some((position, character)) = text.chars().enumerate().find(|(_, c)| !may_follow(*c)) {
        return Err(InvalidId::BadCharacter { character, position, allowed });
    }
    if !may_start(first) {
        return Err(InvalidId::BadStart(first));
    }
    let len = text.chars().count();
    if len > len_max { Err(InvalidId::TooLong { len, len_max }) } else { Ok(()) }
}

macro_rules! text_id {
    ($($type:ident),+) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::try_from(text.as_str())
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )+};
}
text_id!(ServiceName, ImageId, NodeName);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a name must not be empty"),
            Self::TooLong { len, len_max } => write!(f, "{len} characters, at most {len_max} are allowed"),
            Self::BadStart(c) => write!(f, "must begin with a letter or digit, not with {c:?}"),
            Self::BadCharacter { character, position, allowed } => {
                write!(f, "{character:?} at position {position} is not allowed; only {allowed} are")
            }
        }
    }
}

impl std::error::Error for InvalidId {}

#[cfg(test)]
mod tests {
    use super::{Attempt, Epoch, ImageId, InvalidId, NodeName, ServiceName};

    #[test]
    fn service_names() {
        for good in ["a", "0", "web-1", "a.b_c-d", &"x".repeat(63)] {
            assert_eq!(ServiceName::try_from(good).unwrap().as_str(), good);
        }
        let allowed = "lower case letters, digits, '_', '.' and '-'";
        let cases = [
            ("", InvalidId::Empty),
            ("-a", InvalidId::BadStart('-')),
            (".", InvalidId::BadStart('.')),
            ("aB", InvalidId::BadCharacter { character: 'B', position: 1, allowed }),
            ("a/b", InvalidId::BadCharacter { character: '/', position: 1, allowed }),
            ("ä", InvalidId::BadCharacter { character: 'ä', position: 0, allowed }),
            ("a+", InvalidId::BadCharacter { character: '+', position: 1, allowed }),
            (&"x".repeat(64), InvalidId::TooLong { len: 64, len_max: 63 }),
        ];
        for (text, wrong) in cases {
            assert_eq!(ServiceName::try_from(text), Err(wrong), "{text:?}");
        }
    }

    #[test]
    fn image_ids_are_folder_names_that_sort_by_time() {
        let early = ImageId::try_from("20261122T195751.123456Z-1f3a").unwrap();
        let late: ImageId = "20261122T195751.123457Z-0000".parse().unwrap();
        assert!(early < late);
        assert_eq!(early.to_string(), "20261122T195751.123456Z-1f3a");
        for bad in ["", "..", ".hidden", "-f", "a/b", "a b", "a\0", "a\n", &"x".repeat(129)] {
            assert!(ImageId::try_from(bad).is_err(), "{bad:?}");
        }
        assert!(ImageId::try_from("x".repeat(128)).is_ok());
    }

    #[test]
    fn node_names_are_those_of_hosts() {
        for good in ["alpha", "node-1.example.org", "A_b"] {
            assert_eq!(NodeName::try_from(good).unwrap().as_str(), good);
        }
        for bad in ["", ".a", "-a", "a/b", "a b", &"x".repeat(254)] {
            assert!(NodeName::try_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn messages_say_what_is_wrong() {
        let text = |t: &str| ServiceName::try_from(t).unwrap_err().to_string();
        assert_eq!(text(""), "a name must not be empty");
        assert_eq!(text("_a"), "must begin with a letter or digit, not with '_'");
        assert_eq!(text(&"a".repeat(70)), "70 characters, at most 63 are allowed");
        let wanted =
            "' ' at position 2 is not allowed; only lower case letters, digits, '_', '.' and '-' are";
        assert_eq!(text("my service"), wanted);
    }

    #[test]
    fn numbers_grow() {
        assert_eq!(Attempt(3).next(), Attempt(4));
        assert_eq!(Attempt(u64::MAX).next(), Attempt(u64::MAX));
        assert_eq!(Epoch(0).next(), Epoch(1));
        assert_eq!(format!("{} {}", Attempt(7), Epoch(8)), "7 8");
    }
}
