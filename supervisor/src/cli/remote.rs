//! A supervisor on another host: its URL, and what is shown there. It refuses plain HTTP: the token would be seen on the way.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

/// How a supervisor elsewhere is reached.
#[derive(Clone)]
pub(crate) struct Remote {
    /// Where.
    pub(crate) url: Url,
    /// What is shown there.
    pub(crate) token: String,
    /// Who has signed its certificate; `None`: one that the system knows.
    pub(crate) ca: Option<PathBuf>,
}

/// `https://HOST[:PORT]`, and nothing after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    /// 443 if none is written.
    pub(crate) port: u16,
    authority: String,
}

impl Remote {
    /// How it is called.
    pub(crate) fn authority(&self) -> &str {
        &self.url.authority
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let strange = || "write it as https://HOST:PORT".to_owned();
        let uri: Uri = text.parse().map_err(|_| strange())?;
        if uri.scheme_str() == Some("http") {
            return Err("the token would travel unencrypted; write it as https://HOST:PORT".to_owned());
        }
        let authority = uri.authority().ok_or_else(strange)?;
        let is_bare =
            matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("https") || !is_bare {
            return Err(strange());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(443), authority: authority.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        let parsed =
            |text: &str| text.parse::<Url>().map(|url| (url.host.clone(), url.port, url.to_string()));
        let is = |host: &str, port, shown: &str| Ok((host.to_owned(), port, shown.to_owned()));
        assert_eq!(parsed("https://alpha:7444"), is("alpha", 7444, "https://alpha:7444"));
        assert_eq!(parsed("https://[::1]:7444/"), is("::1", 7444, "https://[::1]:7444"));
        assert_eq!(parsed("https://a.example.org"), is("a.example.org", 443, "https://a.example.org"));
        for wrong in
            ["alpha:7444", "http://alpha", "https://alpha/v1", "https://a@alpha", "https://alpha?x", "", "/"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
