//! Where replicas lie: one URL for each kind of place.

use std::path::{Component, Path};

use super::network::parse_address;
use super::word;
use crate::read::Cell;
use crate::settings::ReplicaPlace;

const FORM: &str = "write it as `\"s3://bucket/prefix\"`, `\"gs://bucket/prefix\"`, `\"az://container/prefix\"`, \
    `\"peer://host:port\"` or `\"file:///folder\"`";

/// The URL of a replica.
pub(crate) fn replica_place(cell: &Cell<'_>) -> Option<ReplicaPlace> {
    let written = word(cell)?;
    let Some((scheme, rest)) = written.split_once("://") else {
        return cell.fault("this is not the URL of a replica", FORM);
    };
    let bucket = |make: fn(String) -> ReplicaPlace| match is_bucket(rest) {
        true => Some(make(format!("{scheme}://{}", rest.trim_end_matches('/')))),
        false => cell.fault(
            "this is not the name of a bucket with a prefix",
            "buckets are named by `a-z 0-9 . _ -`; a prefix has no `//`, `.` or `..` in it",
        ),
    };
    match scheme {
        "s3" => bucket(ReplicaPlace::S3),
        "gs" => bucket(ReplicaPlace::Google),
        "az" => bucket(ReplicaPlace::Azure),
        "file" => folder(cell, rest),
        "peer" => match parse_address(rest.trim_end_matches('/'), None) {
            Some(address) => Some(ReplicaPlace::Peer(address)),
            None => cell.fault("this is not the address of a peer", "write it as `\"peer://host:port\"`"),
        },
        _ => cell.fault("there are no replicas of this kind", FORM),
    }
}

fn folder(cell: &Cell<'_>, rest: &str) -> Option<ReplicaPlace> {
    let path = Path::new(rest);
    let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
    if path.is_absolute() && plain && path.parent().is_some() {
        return Some(ReplicaPlace::Folder(path.components().collect()));
    }
    cell.fault(
        "this is not the URL of a folder",
        "write three slashes and no `..`, as `\"file:///mnt/images\"`",
    )
}

/// `bucket` or `bucket/some/prefix`.
fn is_bucket(rest: &str) -> bool {
    let mut pieces = rest.trim_end_matches('/').split('/');
    let plain = |piece: &str| {
        !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    pieces.next().is_some_and(plain) && pieces.all(|piece| plain(piece) && piece != "." && piece != "..")
}

#[cfg(test)]
mod tests {
    use super::is_bucket;

    #[test]
    fn buckets() {
        for right in ["bucket", "bucket/", "my.bucket/a/b_c/d-1", "bucket/A"] {
            assert!(is_bucket(right), "{right}");
        }
        for wrong in
            ["", "/", "/prefix", "bucket//a", "bucket/../a", "bucket/./a", "user@bucket", "bucket/a b", "b?x"]
        {
            assert!(!is_bucket(wrong), "{wrong}");
        }
    }
}
