//! Server addresses: a node or a bucket.
//!
//! Invariant: an address in the text form that [`Server::as_str`] gives is parsed to itself, so
//! that it can be stored. Leaves out whether anybody is there.

use sheaf_site::{Error, Result};

/// Where a site is exchanged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    /// A node: its URL with `http` or `https`, without a slash at the end.
    Node(String),
    /// A bucket: the URL as given.
    Bucket(String),
}

const FORMS: &str = "give a node (http://HOST:PORT, https://HOST, ws:// or wss:// alike) or a \
                     bucket (file:///DIR, s3://BUCKET/PREFIX, gs://..., az://..., memory:)";

impl Server {
    /// Reads an address.
    ///
    /// # Errors
    /// `Invalid`, with the forms that are accepted.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("`{url}` is not a server address: {FORMS}"));
        if url == "memory:" {
            return Ok(Self::Bucket(url.to_owned()));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        if rest.is_empty() || rest.contains(char::is_whitespace) {
            return Err(wrong());
        }
        match scheme {
            "http" | "https" | "ws" | "wss" => {
                let scheme = if scheme.ends_with('s') && scheme != "ws" { "https" } else { "http" };
                let url = format!("{scheme}://{}", rest.trim_end_matches('/'));
                let parsed = reqwest::Url::parse(&url).map_err(|_| wrong())?;
                let plain = parsed.has_host()
                    && parsed.query().is_none()
                    && parsed.fragment().is_none()
                    && parsed.username().is_empty()
                    && parsed.password().is_none();
                if plain { Ok(Self::Node(url)) } else { Err(wrong()) }
            }
            "file" | "s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" | "memory" => {
                Ok(Self::Bucket(url.to_owned()))
            }
            _ => Err(wrong()),
        }
    }

    /// The text form.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Node(url) | Self::Bucket(url) => url,
        }
    }
}

/// The WebSocket address of a node.
pub(crate) fn socket_url(node: &str) -> String {
    let path = sheaf_sync::message::SOCKET_PATH;
    match node.strip_prefix("https://") {
        Some(rest) => format!("wss://{rest}{path}"),
        None => format!("ws://{}{path}", node.trim_start_matches("http://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_buckets_are_told_apart() {
        let node = |url: &str| Server::Node(url.to_owned());
        let bucket = |url: &str| Server::Bucket(url.to_owned());
        for (text, expected) in [
            ("http://127.0.0.1:7070", node("http://127.0.0.1:7070")),
            ("ws://h:1/", node("http://h:1")),
            ("wss://h/a/", node("https://h/a")),
            ("https://[::1]:8", node("https://[::1]:8")),
            ("file:///srv/sheaf", bucket("file:///srv/sheaf")),
            ("s3://b/p", bucket("s3://b/p")),
            ("memory:", bucket("memory:")),
        ] {
            let server = Server::parse(text).unwrap();
            assert_eq!(server, expected, "{text}");
            assert_eq!(Server::parse(server.as_str()).unwrap(), server);
        }
        assert_eq!(socket_url("http://h:1"), "ws://h:1/v1/socket");
        assert_eq!(socket_url("https://h/a"), "wss://h/a/v1/socket");
    }

    #[test]
    fn anything_else_is_refused_with_the_forms_accepted() {
        for text in [
            "",
            "h:7070",
            "http://",
            "ftp://h",
            "http://a b",
            "file://",
            "http://u:p@h",
            "http://h?x",
        ] {
            let text = Server::parse(text).unwrap_err().to_string();
            assert!(text.contains("http://HOST:PORT") && text.contains("s3://"), "{text}");
        }
    }
}
