//! Which packets come from inside, as the rules that translate say.

use types::EthPortId;

use crate::rules::{Action, Match, Query, Rule, Rules};

/// Sources and interfaces of what is translated.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    rules: Rules,
    /// Ways out of rules that name no source: what comes by none of them is from inside.
    outer: Box<[EthPortId]>,
}

impl Inside {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let translating = || rules.iter().filter(|rule| rule.action == Action::Translate);
        let sourced = translating()
            .map(|rule| &rule.matching)
            .filter(|matching| !matching.sources.is_empty() || matching.in_dev.is_some());
        let sourced: Vec<Rule> = sourced
            .map(|matching| {
                let sources = matching.sources.clone();
                let matching = Match { sources, in_dev: matching.in_dev, ..Match::default() };
                Rule { matching, ..Rule::default() }
            })
            .collect();
        let mut outer: Vec<EthPortId> = translating()
            .filter(|rule| rule.matching.sources.is_empty() && rule.matching.in_dev.is_none())
            .filter_map(|rule| rule.matching.out_dev)
            .collect();
        outer.sort_unstable();
        outer.dedup();
        // Each stands for a rule that was compiled, so they are not too many.
        let rules = Rules::new(&sourced).unwrap_or_else(|_| Rules::none());
        Self { rules, outer: outer.into() }
    }

    #[inline]
    pub(super) fn has(&self, src: u32, in_dev: EthPortId) -> bool {
        let query = Query { src, dst: 0, sport: 0, dport: 0, proto: 0, in_dev, out_dev: None };
        self.rules.find(&query).is_some() || !self.outer.is_empty() && !self.outer.contains(&in_dev)
    }
}
