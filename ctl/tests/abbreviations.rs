//! Abbreviations, for all sets of names and all words.

use std::ffi::OsString;

use ctl::words::{WordError, expand, unabbreviate};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

/// Few letters, so that names often begin alike.
fn name() -> impl Strategy<Value = String> {
    "[abc]{1,6}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_word_means_the_one_name_that_it_begins(
        names in btree_set(name(), 1..12),
        word in "[abc]{0,4}",
    ) {
        let candidates: Vec<_> = names.iter().map(|name| (name.as_str(), Vec::new())).collect();
        let begun: Vec<_> = names.iter().filter(|name| name.starts_with(&word)).collect();
        match unabbreviate(&word, "object", &candidates) {
            Ok(name) if name == word => prop_assert!(names.contains(&word)),
            Ok(name) => prop_assert_eq!(&begun, &[name]),
            Err(WordError::Ambiguous { candidates, .. }) => {
                prop_assert!(candidates.len() > 1 && !names.contains(&word));
                prop_assert_eq!(candidates.iter().collect::<Vec<_>>(), begun);
            }
            Err(WordError::Unknown { known, .. }) => {
                prop_assert!(begun.is_empty() || word.is_empty());
                prop_assert_eq!(known.len(), names.len());
            }
        }
    }

    #[test]
    fn every_name_and_every_alias_means_itself(
        names in btree_set(name(), 2..12),
    ) {
        // The first is the name of one thing, the second another name of the same, and so on.
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let candidates: Vec<_> =
            names.chunks(2).map(|pair| (pair[0], pair[1..].to_vec())).collect();
        for pair in names.chunks(2) {
            for name in pair {
                prop_assert_eq!(unabbreviate(name, "verb", &candidates), Ok(pair[0]));
            }
        }
    }

    #[test]
    fn no_words_are_a_panic_and_what_is_expanded_stays(
        words in vec(
            prop_oneof![
                "[a-z]{1,4}",
                "-{1,2}[a-z46]{0,3}",
                Just("show".to_owned()),
                Just("service".to_owned()),
                Just("add".to_owned()),
                Just("dev".to_owned()),
                "\\PC{0,4}",
            ],
            0..8,
        ),
    ) {
        let grammar = ctl::cli::command();
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let again = |words: &[OsString]| expand(&grammar, words).ok();
        if let Some(expanded) = again(&words)
            && let Some(twice) = again(&expanded)
        {
            prop_assert_eq!(twice, expanded);
        }
    }
}
