//! The cells of docs/compatibility.md, each for real: started, given a number, checkpointed, killed, restored, asked.
#![allow(missing_docs)]

use system_tests::matrix::{Expected, PLACES, Place, ROWS, run};

/// `name: place place;` makes a test of each, and [`CELLS`] of all.
macro_rules! cells {
    ($($row:ident: $($place:ident)*;)*) => {
        $(mod $row {
            $(#[test] fn $place() { super::cell(stringify!($row), stringify!($place)) })*
        })*
        const CELLS: &[(&str, &str)] = &[$($((stringify!($row), stringify!($place)),)*)*];
    };
}

cells! {
    redis: process runc docker podman;
    nginx: process runc docker podman;
    python: process runc docker podman;
    node: process runc docker podman;
    tokio: process runc docker podman;
    threads: process runc docker podman;
    processes: process runc docker podman;
    shared_memory: process runc docker podman;
    unix: process runc docker podman;
    descriptors: process runc docker podman;
    inotify: process runc docker podman;
    inotify_plain: process runc docker podman;
    files: process runc docker podman;
    removed: process runc docker podman;
    loopback: process runc docker podman;
    locks: process runc docker podman;
    locks_refused: process runc docker podman;
    sysv: process runc docker podman;
    removed_large: process runc docker podman;
    removed_large_allowed: process runc docker podman;
    io_uring: process runc docker;
    unix_outside: process runc docker podman;
    terminal: process;
}

fn cell(row: &str, place: &str) {
    let place = PLACES.into_iter().find(|known| known.word() == place).expect("a column");
    run(&named(row), place);
}

/// Rows are written with dashes.
fn named(test: &str) -> String {
    test.replace('_', "-")
}

#[test]
fn every_cell_of_the_table_is_a_test() {
    let mut tests: Vec<(String, &str)> = CELLS.iter().map(|(row, place)| (named(row), *place)).collect();
    let is_there = |(_, expected): &(&Place, &Expected)| !matches!(expected, Expected::Absent(_));
    let cells = |row: &'static system_tests::matrix::Row| {
        let places = PLACES.iter().zip(&row.expected).filter(is_there);
        places.map(|(place, _)| (row.name.to_owned(), place.word())).collect::<Vec<_>>()
    };
    let mut cells: Vec<(String, &str)> = ROWS.iter().flat_map(cells).collect();
    tests.sort_unstable();
    cells.sort_unstable();
    assert_eq!(tests, cells);
}
