//! Counters compared by name: what is not named must not have changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The values of named counters at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    counters: BTreeMap<String, i128>,
}

impl<N: Into<String>> FromIterator<(N, u64)> for Ledger {
    fn from_iter<I: IntoIterator<Item = (N, u64)>>(counters: I) -> Self {
        let counters = counters.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { counters: counters.collect() }
    }
}

impl Ledger {
    /// The counters now.
    pub fn of<N: Into<String>>(counters: impl IntoIterator<Item = (N, u64)>) -> Self {
        counters.into_iter().collect()
    }

    /// The value of a counter, 0 if there is none of that name.
    pub fn value(&self, name: &str) -> i128 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// What changed since `before`, as [`Ledger::expect`] is told it: `"conns+1 sent+2"`.
    pub fn changes(&self, before: &Self) -> String {
        let mut text = String::new();
        for (name, change) in self.changes_since(before) {
            let space = if text.is_empty() { "" } else { " " };
            write!(text, "{space}{name}{change:+}").expect("a string takes all");
        }
        text
    }

    /// Asserts that exactly these counters changed since `before`, and so much: names with `+n` or
    /// `-n`, separated by spaces; an empty text says that none did.
    ///
    /// Afterwards `before` is what `self` is, ready for the next step.
    #[track_caller]
    pub fn expect(&self, before: &mut Self, changes: &str) {
        let mut wanted = BTreeMap::new();
        for change in changes.split_whitespace() {
            let (name, amount) = split_change(change);
            assert!(wanted.insert(name.to_owned(), amount).is_none(), "`{name}` is named twice");
        }
        wanted.retain(|_, amount| *amount != 0);
        let found = self.changes_since(before);
        assert!(
            found == wanted,
            "counters changed by [{}], expected [{changes}]",
            self.changes(before),
        );
        before.clone_from(self);
    }

    fn changes_since(&self, before: &Self) -> BTreeMap<String, i128> {
        let names = self.counters.keys().chain(before.counters.keys());
        let changes = names.map(|name| (name.clone(), self.value(name) - before.value(name)));
        changes.filter(|(_, change)| *change != 0).collect()
    }
}

/// `drop.not-syn+2` into name and amount: the sign is the last one, since names have hyphens.
fn split_change(change: &str) -> (&str, i128) {
    let sign = change.rfind(['+', '-']);
    let parsed = sign.and_then(|at| Some((&change[..at], change[at..].parse().ok()?)));
    match parsed {
        Some(found) => found,
        None => panic!("`{change}` is not like name+1 or name-1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (Ledger, Ledger) {
        let before = Ledger::of([("sent", 1), ("drop.not-syn", 0), ("conns", 5)]);
        let after = Ledger::of([("sent", 3), ("drop.not-syn", 1), ("conns", 4)]);
        (before, after)
    }

    #[test]
    fn exactly_what_is_named_may_change() {
        let (mut before, after) = two();
        assert_eq!(after.changes(&before), "conns-1 drop.not-syn+1 sent+2");
        after.expect(&mut before, "sent+2 drop.not-syn+1 conns-1");
        after.expect(&mut before, "");
        after.expect(&mut before, "sent+0");
    }

    #[test]
    #[should_panic(expected = "changed by [conns-1 drop.not-syn+1 sent+2], expected [sent+2")]
    fn what_is_left_out_is_told() {
        let (mut before, after) = two();
        after.expect(&mut before, "sent+2 conns-1");
    }

    #[test]
    #[should_panic(expected = "`sent` is not like name+1")]
    fn a_change_needs_an_amount() {
        let (mut before, after) = two();
        after.expect(&mut before, "sent");
    }
}
