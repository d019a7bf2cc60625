//! Tests of capturing and putting back.
