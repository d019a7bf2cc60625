//! Closed choices that have a name in the configuration: the name, the list of all, and the way back.

/// Gives an enum without data its names: `ALL`, `name()`, `Display` and `FromStr`.
///
/// One list for all of them, so that the configuration, its documentation and the status cannot disagree.
macro_rules! words {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every choice, in the order of the documentation.
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            /// The word for it in configuration, status and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::word::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($name => Ok($type::$variant),)+
                    _ => Err(crate::word::UnknownWord { known: &[$($name),+] }),
                }
            }
        }
    };
}

pub(crate) use words;

/// A word that is none of the known ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// The words that would have been understood.
    pub known: &'static [&'static str],
}

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected one of: {}", self.known.join(", "))
    }
}

impl std::error::Error for UnknownWord {}
