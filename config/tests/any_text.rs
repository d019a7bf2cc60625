//! Any text at all gets an answer: never a panic, and positions that lie inside the text.
#![allow(clippy::unwrap_used)]

use config::{Config, Severity};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};
use proptest::test_runner::Config as Rounds;

/// Files that use everything, to be damaged.
const WHOLE: [&str; 5] = [
    include_str!("mistakes/values.toml"),
    include_str!("mistakes/http.toml"),
    include_str!("mistakes/volumes.toml"),
    include_str!("mistakes/containers.toml"),
    include_str!("warnings/all.toml"),
];

/// Pieces that make near-misses likelier than letters do.
const PIECES: [&str; 24] = [
    "[service.web]\n",
    "[service.web.checkpoint]\n",
    "[[service]]\n",
    "process = {",
    "command = [",
    "]",
    "}",
    "\n",
    "\"",
    "'",
    "${",
    "${X}",
    "$${",
    "\\u0000",
    "interval = ",
    "\"1s\"",
    "-1",
    "1e999",
    "99999999999999999999",
    "\r\n",
    "日本",
    "\u{202e}",
    "depends_on = [\"web\"]\n",
    "=",
];

#[derive(Clone, Debug)]
enum Damage {
    Cut(Index, Index),
    Put(Index, String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let piece =
        prop_oneof![select(PIECES.to_vec()).prop_map(str::to_owned), any::<char>().prop_map(String::from)];
    prop_oneof![
        (any::<Index>(), any::<Index>()).prop_map(|(from, len)| Damage::Cut(from, len)),
        (any::<Index>(), piece).prop_map(|(at, piece)| Damage::Put(at, piece)),
    ]
}

fn apply(text: &str, damages: &[Damage]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for damage in damages {
        match damage {
            Damage::Cut(from, len) => {
                let from = from.index(letters.len() + 1);
                let to = (from + len.index(40)).min(letters.len());
                letters.drain(from..to);
            }
            Damage::Put(at, piece) => {
                let at = at.index(letters.len() + 1);
                letters.splice(at..at, piece.chars());
            }
        }
    }
    letters.into_iter().collect()
}

/// Holds for every text.
fn parse_and_judge(text: &str) {
    let env = |name: &str| (name.len() < 3).then(|| format!("/{name}"));
    let again = Config::parse(text, "t.toml", &env);
    let result = Config::parse(text, "t.toml", &env);
    assert_eq!(result, again, "the same text gets the same answer");
    let mistakes = match &result {
        Ok(config) => config.warnings(),
        Err(errors) => {
            assert!(errors.mistakes.iter().any(|mistake| mistake.severity == Severity::Error));
            &errors.mistakes
        }
    };
    for mistake in mistakes {
        let lines: Vec<_> = text.split('\n').collect();
        let line = lines[mistake.line - 1];
        assert!((1..=line.chars().count() + 1).contains(&mistake.column), "{mistake}");
        assert!(!mistake.message.is_empty() && mistake.excerpt.contains("t.toml"), "{mistake}");
    }
}

proptest! {
    #![proptest_config(Rounds { cases: 600, failure_persistence: None, ..Rounds::default() })]

    #[test]
    fn random_text(text in ".{0,200}") {
        parse_and_judge(&text);
    }

    #[test]
    fn random_pieces(pieces in proptest::collection::vec(select(PIECES.to_vec()), 0..30)) {
        parse_and_judge(&pieces.concat());
    }

    #[test]
    fn damaged_files(
        whole in select(WHOLE.to_vec()),
        damages in proptest::collection::vec(damage(), 1..6),
        _round in Just(()),
    ) {
        parse_and_judge(&apply(whole, &damages));
    }
}

/// Depth and length that a fuzzer would find first.
#[test]
fn absurd_sizes() {
    let chain: String = (0..5000)
        .map(|n| format!("[service.s{n}]\nrunc.bundle = '/b'\ndepends_on = ['s{}']\n", (n + 1) % 5000))
        .collect();
    for text in ["[".repeat(100_000), "a.".repeat(50_000), format!("x = {}", "[".repeat(50_000)), chain] {
        parse_and_judge(&text);
    }
}
