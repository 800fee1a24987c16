//! The nearest right word to a wrong one, by edit distance.
//!
//! Is not a guess at any price: a word too far from all others has no nearest.

/// The one of `words` with the fewest single-letter edits (insert, delete,
/// replace, swap of neighbours) from `wrong`, if at most a third of its letters
/// (at least one) are wrong.
pub(crate) fn nearest<'a>(
    wrong: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Longer than any word we know; also bounds the work on hostile input.
    if wrong.len() > 64 {
        return None;
    }
    let limit = (wrong.chars().count() / 3).max(1);
    words
        .into_iter()
        .map(|word| (distance(wrong, word), word))
        .filter(|&(edits, word)| edits <= limit && edits < word.len())
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, word)| word)
}

/// Optimal string alignment (Damerau 1964, restricted to untouched pairs).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let words = ["push", "join", "call", "listen", "hello", "wait", "off"];
        assert_eq!(nearest("pusch", words), Some("push"));
        assert_eq!(nearest("psuh", words), Some("push"));
        assert_eq!(nearest("LISTEN", words), Some("listen"));
        assert_eq!(nearest("of", words), Some("off"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"x".repeat(10_000), words), None);
    }
}
