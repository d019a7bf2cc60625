//! `[[store.replica]]` and the `tls` tables of peers.

use super::{Key, Kind, Section};

pub(super) static REPLICA: Section = Section {
    title: "store.replica",
    doc: "A place outside of this host to which durable images are sent: a bucket, a folder or another node. As many \
    as wanted; see [replicas](replicas.md).",
    keys: &[
        Key::required(
            "url",
            Kind::Text,
            "\"s3://bucket/prefix\"",
            "Where: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, `peer://HOST:PORT` (another \
            node's `api.listen`) or `file:///FOLDER` (a mounted disk of another host).",
        ),
        Key::optional(
            "endpoint",
            Kind::Text,
            "the provider's own",
            "\"https://s3.example.org\"",
            "The address of an S3-compatible server, or of Azure's; `http` only where nobody listens.",
        ),
        Key::optional(
            "region",
            Kind::Text,
            "`AWS_REGION`, or `us-east-1`",
            "\"eu-central-1\"",
            "The region of an S3 bucket.",
        ),
        Key::optional(
            "credentials_file",
            Kind::Path,
            "the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`), then the machine's own role",
            "\"/etc/supervisor/s3.keys\"",
            "Who we are to the bucket: for `gs` the service account's JSON, else lines of `name = value` \
            (`aws_access_key_id`, `aws_secret_access_key`, `azure_storage_account_name`, \
            `azure_storage_account_key`).",
        ),
        Key::optional(
            "services",
            Kind::List(&Kind::ServiceName),
            "all services",
            "[\"db\"]",
            "Only images of these services are sent there.",
        ),
        Key::optional(
            "rate_limit",
            Kind::Size,
            "no limit",
            "\"20MB\"",
            "Most bytes a second that are sent there, all services together.",
        ),
        Key::default(
            "timeout",
            Kind::Duration,
            "\"30s\"",
            "How long the other side may be silent before the attempt counts as failed.",
        ),
        Key::default(
            "max_checkpoints",
            Kind::Whole { min: 2, max: 100_000 },
            "10",
            "How many images of each service are kept there; the newest good one always is.",
        ),
        Key::optional(
            "max_age",
            Kind::Duration,
            "no limit",
            "\"7days\"",
            "Images older than this go there too.",
        ),
        Key::optional(
            "max_total_size",
            Kind::Size,
            "no limit",
            "\"50GB\"",
            "Space that the images of one service may take there.",
        ),
        Key::table("tls", &REPLICA_TLS),
    ],
};

static REPLICA_TLS: Section = Section {
    title: "store.replica.tls",
    doc: "For `peer://` only: other certificates than those of `[api.tls]`.",
    keys: &[CA, CERT, KEY],
};

pub(super) static API_TLS: Section = Section {
    title: "api.tls",
    doc: "How this node shows who it is and knows its peers; `supervisor cert init` and `cert issue` make these files.",
    keys: &[CA, CERT, KEY],
};

const CA: Key = Key::required(
    "ca",
    Kind::Path,
    "\"/etc/supervisor/tls/ca.crt\"",
    "The certificate that has signed those of all nodes (PEM).",
);

const CERT: Key = Key::required(
    "cert",
    Kind::Path,
    "\"/etc/supervisor/tls/alpha.crt\"",
    "This node's certificate (PEM); read anew for each connection, so that a new one is used at once.",
);

const KEY: Key = Key::required(
    "key",
    Kind::Path,
    "\"/etc/supervisor/tls/alpha.key\"",
    "Its key (PEM), for its owner only.",
);
