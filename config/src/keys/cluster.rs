//! `[cluster]`: who may run a service, when there is more than one host.

use super::{Key, Kind, Section, words};
use crate::settings::Lease;

pub(super) static CLUSTER: Section = Section {
    title: "cluster",
    doc: "Where the right to run a service is kept, so that one node at most runs it. See docs/failover.md.",
    keys: &[
        Key::default(
            "lease",
            Kind::Choice(words::<Lease>),
            "\"local\"",
            "`local`: this host stands alone; `etcd`: in etcd; `bucket`: in an S3-compatible bucket or a shared \
            folder.",
        ),
        Key::default(
            "endpoints",
            Kind::List(&Kind::Url),
            "[]",
            "The members of etcd, as `\"https://10.0.0.1:2379\"`; with `https` also `tls.ca`.",
        ),
        Key::optional(
            "bucket",
            Kind::Url,
            "only with `lease = \"bucket\"`",
            "\"s3://bucket/prefix\"",
            "Where leases lie with `lease = \"bucket\"`: `s3://bucket/prefix` (credentials and endpoint by the usual \
            `AWS_*` variables), or `file:///folder` on a file system that all nodes share.",
        ),
        Key::default(
            "ttl",
            Kind::Duration,
            "\"10s\"",
            "How long a lease holds without a renewal: a lost host is noticed after this, and a host cut off stops its \
            services before.",
        ),
        Key::default(
            "renew_interval",
            Kind::Duration,
            "\"2s\"",
            "How often a lease is renewed; at most about half of `ttl`.",
        ),
        Key::optional(
            "watchdog",
            Kind::Path,
            "no watchdog",
            "\"/dev/watchdog\"",
            "A watchdog device that resets this host before a lease can be taken from it, should the supervisor hang or a service not \
            die. Armed only while a lease is held; see docs/failover.md.",
        ),
        Key::table("tls", &TLS),
    ],
};

static TLS: Section = Section {
    title: "cluster.tls",
    doc: "Certificates for etcd, as PEM files.",
    keys: &[
        Key::optional(
            "ca",
            Kind::Path,
            "only without `https`",
            "\"/etc/supervisor/ca.pem\"",
            "Who signed the servers' certificates.",
        ),
        Key::optional(
            "cert",
            Kind::Path,
            "no certificate of our own",
            "\"/etc/supervisor/node.pem\"",
            "This node's certificate, if the servers ask for one.",
        ),
        Key::optional("key", Kind::Path, "none", "\"/etc/supervisor/node.key\"", "Its key."),
    ],
};
