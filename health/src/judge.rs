//! When a server comes up and goes down: answers in a row, asking again, and damping of flaps.

use config::Health;

/// By what a server is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Passed checks in a row that bring it up.
    pub rise: u32,
    /// Failed checks in a row that bring it down.
    pub fall: u32,
    /// How often it is asked again before a check has failed, while it is up.
    pub retries: u32,
    /// How long it stays down at least: the first time, and at most, in milliseconds.
    pub hold_ms: Option<(u64, u64)>,
}

impl From<&Health> for Rules {
    fn from(check: &Health) -> Self {
        Self {
            rise: check.rise.into(),
            fall: check.fall.into(),
            retries: check.retries.into(),
            hold_ms: check.flap_damping.map(|damping| (damping.hold.as_ms(), damping.max.as_ms())),
        }
    }
}

/// When the server is asked the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After the interval.
    Interval,
    /// Soon: this answer does not count yet.
    Retry,
}

/// Going down again within so many times as long as it was held is a flap.
const FLAP_WINDOW: u64 = 10;

/// The judgement on one server by one check.
#[derive(Clone, Debug)]
pub struct Judge {
    rules: Rules,
    up: bool,
    /// Answers in a row that speak against what it is.
    against: u32,
    /// How often it has been asked again for this check.
    retried: u32,
    /// When it went down the last time and for how long it was to stay so, in milliseconds.
    fell: Option<(u64, u64)>,
}

impl Judge {
    /// Of a server that is taken to be up or down.
    pub fn new(rules: Rules, up: bool) -> Self {
        Self { rules, up, against: 0, retried: 0, fell: None }
    }

    /// Whether the server is up.
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Until when the server stays down though it answers, in milliseconds.
    pub fn held_until_ms(&self) -> Option<u64> {
        self.fell.filter(|_| !self.up).map(|(at, hold)| at.saturating_add(hold))
    }

    /// Takes an answer. Gives when to ask next; [`Judge::is_up`] then is what follows from it.
    pub fn take(&mut self, passed: bool, now_ms: u64) -> Next {
        if passed == self.up {
            (self.against, self.retried) = (0, 0);
            return Next::Interval;
        }
        if self.up && self.retried < self.rules.retries {
            self.retried += 1;
            return Next::Retry;
        }
        self.retried = 0;
        self.against = self.against.saturating_add(1);
        let enough = if self.up { self.rules.fall } else { self.rules.rise };
        let held = self.held_until_ms().is_some_and(|until| now_ms < until);
        if self.against < enough || held {
            return Next::Interval;
        }
        (self.up, self.against) = (passed, 0);
        if !passed {
            self.fall(now_ms);
        }
        Next::Interval
    }

    fn fall(&mut self, now_ms: u64) {
        let Some((first, most)) = self.rules.hold_ms else { return };
        let again = self
            .fell
            .filter(|(at, hold)| now_ms.saturating_sub(*at) <= hold.saturating_mul(FLAP_WINDOW));
        let hold = again.map_or(first, |(_, hold)| hold.saturating_mul(2).min(most));
        self.fell = Some((now_ms, hold));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Rules = Rules { rise: 2, fall: 3, retries: 0, hold_ms: None };

    /// What a server is after each answer, `+` or `-`, one a second.
    fn story(rules: Rules, answers: &str) -> String {
        let mut judge = Judge::new(rules, true);
        let states = (0u64..).zip(answers.chars()).map(|(second, answer)| {
            let next = judge.take(answer == '+', second * 1_000);
            match (judge.is_up(), next) {
                (true, Next::Interval) => 'U',
                (true, Next::Retry) => 'r',
                (false, _) => 'd',
            }
        });
        states.collect()
    }

    #[test]
    fn it_takes_answers_in_a_row() {
        assert_eq!(story(PLAIN, "+--+---+-++-"), "UUUUUUddddUU");
    }

    #[test]
    fn a_failed_check_is_one_whose_retries_have_failed() {
        let rules = Rules { rise: 1, fall: 2, retries: 1, ..PLAIN };
        assert_eq!(story(rules, "-+---+--++-"), "rUrUrUrUUUr");
        assert_eq!(story(rules, "----"), "rUrd");
        // Nobody is asked twice for what is known.
        assert_eq!(story(rules, "----+"), "rUrdU");
        assert_eq!(story(rules, "-----"), "rUrdd");
    }

    #[test]
    fn a_server_that_flaps_stays_down_ever_longer() {
        let hold_ms = Some((2_000, 5_000));
        let rules = Rules { rise: 1, fall: 1, retries: 0, hold_ms };
        // Down for 2 s, then 4 s, then 5 s, the most.
        assert_eq!(story(rules, "-++-++++-+++++"), "ddUddddUdddddU");
        let mut judge = Judge::new(rules, true);
        judge.take(false, 0);
        judge.take(true, 2_000);
        // Long after, it is the first time again.
        judge.take(false, 22_001);
        assert_eq!(judge.held_until_ms(), Some(24_001));
    }

    proptest! {
        #[test]
        fn a_change_needs_as_many_answers_as_the_rules_say(
            answers in proptest::collection::vec(any::<bool>(), 0..200),
            rise in 1..5u32, fall in 1..5u32, retries in 0..3u32,
            hold_ms in proptest::option::of((1..4_000u64, 4_000..9_000u64)),
        ) {
            let rules = Rules { rise, fall, retries, hold_ms };
            let mut judge = Judge::new(rules, true);
            let (mut row, mut last, mut fell) = (0u32, true, None);
            for (second, passed) in (0u64..).zip(answers) {
                let now = second * 1_000;
                row = if passed == last { row + 1 } else { 1 };
                last = passed;
                let before = judge.is_up();
                let next = judge.take(passed, now);
                prop_assert!(next == Next::Interval || before && judge.is_up() && !passed);
                if judge.is_up() != before {
                    prop_assert_eq!(judge.is_up(), passed);
                    let needed = if passed { rise } else { fall * (retries + 1) };
                    prop_assert!(row >= needed);
                    if !passed {
                        fell = Some(now);
                    } else if let (Some(at), Some((first, _))) = (fell, hold_ms) {
                        prop_assert!(now - at >= first);
                    }
                } else if !passed && before {
                    prop_assert!(row < fall * (retries + 1) , "it should be down");
                }
            }
        }
    }
}
