//! Errors by remedy: a variant exists if somebody handles it differently.

use std::fmt;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, sorted by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not now: a full disk, an absent daemon, a time limit. Trying again may help.
    #[error("{0}")]
    Unavailable(Report),
    /// The host or the service cannot do this, however often it is tried.
    #[error("{0}")]
    Refused(Report),
    /// An image or journal is damaged; another one has to serve.
    #[error("{0}")]
    Corrupt(Report),
    /// Somebody else holds the service now. Only a kill may follow.
    #[error("{0}")]
    Fenced(Report),
    /// The input must change.
    #[error("{0}")]
    Invalid(Report),
    /// A mistake of ours.
    #[error("{0}")]
    Internal(Report),
}

/// What was tried, why it failed, what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    message: String,
    causes: Vec<String>,
    remedy: Option<String>,
    output: Vec<String>,
}

impl Report {
    /// `message` is lower case and says what was tried, variables last.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), remedy: None, output: Vec::new() }
    }

    /// Adds an error that led to this one, with its own causes.
    #[must_use]
    pub fn because(mut self, cause: impl std::error::Error) -> Self {
        self.causes.push(cause.to_string());
        let mut next = cause.source();
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the last lines that a failed command or CRIU's log left.
    #[must_use]
    pub fn output(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.output.extend(lines);
        self
    }

    /// What a person can do about it, if we know.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The last lines of the failed command's output.
    pub fn output_lines(&self) -> &[String] {
        &self.output
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, " (remedy: {remedy})")?;
        }
        for line in &self.output {
            write!(f, "\n    | {line}")?;
        }
        Ok(())
    }
}

impl Error {
    /// The report inside, whatever the kind.
    pub fn report(&self) -> &Report {
        match self {
            Self::Unavailable(r)
            | Self::Refused(r)
            | Self::Corrupt(r)
            | Self::Fenced(r)
            | Self::Invalid(r)
            | Self::Internal(r) => r,
        }
    }

    /// The same, with where it went wrong before what was tried.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        let report = match &mut self {
            Self::Unavailable(r)
            | Self::Refused(r)
            | Self::Corrupt(r)
            | Self::Fenced(r)
            | Self::Invalid(r)
            | Self::Internal(r) => r,
        };
        report.message = format!("{place}: {}", report.message);
        self
    }

    /// One word for the kind, for events and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Refused(_) => "refused",
            Self::Corrupt(_) => "corrupt",
            Self::Fenced(_) => "fenced",
            Self::Invalid(_) => "invalid",
            Self::Internal(_) => "internal",
        }
    }
}
