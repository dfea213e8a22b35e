//! Errors of deserialisation in words for people.

use crate::error::{ConfigError, ErrorKind, Path, Segment};

/// Puts serde's words for what is wrong at `path` into ours.
pub fn explain_serde(path: Path, message: &str) -> ConfigError {
    let plain = |message: String| ConfigError::new(ErrorKind::Syntax, path.clone(), message);
    if let Some((key, known)) = unknown(message, "unknown field `") {
        let error = ConfigError::new(ErrorKind::Syntax, with_key(path, key), "unknown key");
        return match suggest(key, &known) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None if known.is_empty() => error,
            None => error.hint(format!("known are {}", quoted(&known).join(", "))),
        };
    }
    if let Some((value, known)) = unknown(message, "unknown variant `") {
        let error = plain(format!("`{value}` is not {}", one_of(&known)));
        return match suggest(value, &known) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error,
        };
    }
    if let Some(key) = message.strip_prefix("duplicate field `").and_then(|m| m.strip_suffix('`')) {
        let message = "it stands here for the second time";
        return ConfigError::new(ErrorKind::Syntax, with_key(path, key), message);
    }
    if let Some(key) = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`')) {
        return plain(format!("`{key}` is missing"));
    }
    for prefix in ["invalid value: ", "invalid type: "] {
        if let Some((found, expected)) =
            message.strip_prefix(prefix).and_then(|rest| rest.rsplit_once(", expected "))
        {
            return plain(format!("{} is not {}", found_value(found), type_name(expected)));
        }
    }
    plain(message.to_owned())
}

/// The path with the key at its end; serde's own path may have it already.
fn with_key(path: Path, key: &str) -> Path {
    let has_it = matches!(path.segments().last(), Some(Segment::Key(last)) if last == key);
    if has_it { path } else { path.key(key) }
}

/// The name and the known names of "unknown field `x`, expected one of `a`, `b`".
fn unknown<'a>(message: &'a str, prefix: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let (name, rest) = message.strip_prefix(prefix)?.split_once('`')?;
    Some((name, rest.split('`').skip(1).step_by(2).collect()))
}

/// The value of "string \"x\"" or "integer `5`", as it stands in the file.
fn found_value(found: &str) -> String {
    match found.split_once([' ']) {
        Some(("string", text)) => format!("`{}`", text.trim_matches('"')),
        Some(("integer" | "floating" | "boolean", text)) => {
            text.trim_start_matches("point ").trim_matches('`').to_owned()
        }
        _ if found == "unit value" => "nothing".to_owned(),
        _ if found == "map" || found == "sequence" => format!("a {found}"),
        _ => found.to_owned(),
    }
}

/// Rust's names of types, for people.
fn type_name(expected: &str) -> String {
    match expected {
        "u8" => "a number from 0 to 255".to_owned(),
        "u16" => "a number from 0 to 65535".to_owned(),
        "u32" => "a number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "IP address" => "an IP address".to_owned(),
        _ if expected.starts_with("struct ") => "a map of keys".to_owned(),
        _ if expected.starts_with("enum ") || expected.starts_with("variant ") => {
            "a word".to_owned()
        }
        _ => expected.to_owned(),
    }
}

fn quoted(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("`{name}`")).collect()
}

fn one_of(names: &[&str]) -> String {
    match quoted(names).as_slice() {
        [] => "known".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The name that `word` was probably meant to be: at most a third of it is wrong.
pub(crate) fn suggest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let best = names.iter().map(|name| (distance(word, name), *name)).min()?;
    (best.0 <= best.1.len().div_ceil(3)).then_some(best.1)
}

/// How many letters must change, go or come (Levenshtein); swapped neighbours count once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut cost = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(rows[i - 2][j - 2] + 1);
            }
            row.push(cost);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, message: &str) -> String {
        let keys = path.split('.').filter(|key| !key.is_empty());
        explain_serde(keys.fold(Path::root(), |path, key| path.key(key)), message).to_string()
    }

    #[test]
    fn unknown_keys_come_with_the_nearest_known_one() {
        let message = "unknown field `sheduler`, expected one of `vips`, `scheduler`, `servers`";
        assert_eq!(
            text("services.shop", message),
            "services.shop.sheduler: unknown key; did you mean `scheduler`?"
        );
        assert_eq!(
            text(".", "unknown field `x`, expected `cpus` or `idle`"),
            "x: unknown key; known are `cpus`, `idle`"
        );
        assert_eq!(
            text("a", "unknown variant `rrr`, expected one of `rr`, `wrr`, `mh`"),
            "a: `rrr` is not `rr`, `wrr` or `mh`; did you mean `rr`?"
        );
    }

    #[test]
    fn types_are_told_without_rust() {
        assert_eq!(
            text("w", "invalid value: integer `65536`, expected u16"),
            "w: 65536 is not a number from 0 to 65535"
        );
        assert_eq!(
            text("w", "invalid type: string \"no\", expected a boolean"),
            "w: `no` is not `true` or `false`"
        );
        assert_eq!(
            text("services", "invalid type: sequence, expected a map keyed by name"),
            "services: a sequence is not a map keyed by name"
        );
        assert_eq!(text("s", "missing field `vips`"), "s: `vips` is missing");
        assert_eq!(text("s", "duplicate field `a`"), "s.a: it stands here for the second time");
    }

    #[test]
    fn distances() {
        for (a, b, far) in [("", "abc", 3), ("abc", "abc", 0), ("acb", "abc", 1), ("ab", "xyz", 3)]
        {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }
}
