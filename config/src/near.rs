//! The known word nearest to one that is not known.
//!
//! Edit distance with neighbours swapped (`inetrval`) counting one. It refuses to guess when a third of the
//! word would have to change.

/// The nearest of `known`, if it is near enough to be meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Absurdly long words are nobody's slip of the finger, and the distance is quadratic.
    if word.len() > 64 {
        return None;
    }
    let plain = plain(word);
    let limit = (plain.len() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (cost(&plain, &self::plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case and the choice of `-` or `_` are slips that cost nothing.
fn plain(word: &str) -> Vec<char> {
    word.chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() }).collect()
}

/// A word that only goes on longer, or breaks off (`environment`, `sock`), is one slip.
fn cost(word: &[char], candidate: &[char]) -> usize {
    let shorter = word.len().min(candidate.len());
    if shorter >= 3 && word[..shorter] == candidate[..shorter] && word.len() != candidate.len() {
        return 1;
    }
    distance(word, candidate)
}

fn distance(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut rows = vec![vec![0; width]; left.len() + 1];
    for (at, row) in rows.iter_mut().enumerate() {
        row[0] = at;
    }
    rows[0] = (0..width).collect();
    for i in 1..=left.len() {
        for j in 1..width {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 5] = ["interval", "timeout", "max_age", "stop_signal", "env"];

    #[test]
    fn slips_find_their_word() {
        let slips = [
            ("inetrval", "interval"),
            ("Timeout", "timeout"),
            ("time_out", "timeout"),
            ("max-age", "max_age"),
            ("stopsignal", "stop_signal"),
            ("evn", "env"),
            ("environment", "env"),
            ("stop", "stop_signal"),
        ];
        for (slip, meant) in slips {
            assert_eq!(nearest(slip, KNOWN), Some(meant), "{slip}");
        }
    }

    #[test]
    fn strangers_find_nothing() {
        for stranger in ["colour", "x", "", "whole_interval"] {
            assert_eq!(nearest(stranger, KNOWN), None, "{stranger}");
        }
    }

    #[test]
    fn absurd_lengths_are_not_measured() {
        assert_eq!(nearest(&"i".repeat(100_000), KNOWN), None);
    }
}
