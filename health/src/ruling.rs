//! What follows for a service from the state of its real servers.

use std::collections::BTreeMap;

use config::OnFailure;
use types::Endpoint;

/// A real server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address and port.
    pub server: Endpoint,
    /// Its configured weight; 0 if the operator has taken it out.
    pub weight: u16,
    /// What becomes of it, if it is down.
    pub down: Option<OnFailure>,
}

/// What differs in a service from how it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruling {
    /// Servers that are down.
    pub down: BTreeMap<Endpoint, OnFailure>,
    /// The quorum is lost.
    pub lost: bool,
}

impl Ruling {
    /// True if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.down.is_empty() && !self.lost
    }
}

/// What follows from the state of all members. The quorum has a weight and a hysteresis; `lost` says whether it
/// was lost before.
pub fn ruling(members: &[Member], (quorum, hysteresis): (u32, u32), lost: bool) -> Ruling {
    let up = members.iter().filter(|member| member.down.is_none());
    let weight: u32 = up.map(|member| u32::from(member.weight)).sum();
    let needed = match lost {
        true => quorum.saturating_add(hysteresis),
        false => quorum.saturating_sub(hysteresis).max(1),
    };
    let down = members.iter().filter_map(|member| Some((member.server, member.down?)));
    Ruling { down: down.collect(), lost: weight < needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u16], down: &[usize]) -> Vec<Member> {
        let member = |(place, weight): (usize, &u16)| Member {
            server: Endpoint::v4(place as u32 + 1, 80),
            weight: *weight,
            down: down.contains(&place).then_some(OnFailure::Inhibit),
        };
        weights.iter().enumerate().map(member).collect()
    }

    #[test]
    fn a_quorum_is_of_weights_and_has_a_hysteresis() {
        let lost =
            |down: &[usize], quorum, lost| ruling(&members(&[10, 10, 5], down), quorum, lost).lost;
        assert!(!lost(&[0, 1], (1, 0), false) && lost(&[0, 1, 2], (1, 0), false));
        assert!(!lost(&[2], (20, 0), false) && lost(&[1], (20, 0), false));
        // 15 to 25 is neither enough to come nor little enough to go.
        assert!(!lost(&[0], (20, 5), false) && lost(&[0], (20, 5), true));
        assert!(lost(&[0, 2], (20, 5), false) && !lost(&[], (20, 5), true));
        // One who weighs nothing is nobody's quorum.
        assert!(ruling(&members(&[0], &[]), (1, 0), false).lost);
    }

    #[test]
    fn who_is_down_is_named_with_what_becomes_of_him() {
        let mut all = members(&[1, 1], &[1]);
        assert_eq!(ruling(&all, (1, 0), false).down, [(all[1].server, OnFailure::Inhibit)].into());
        all[1].down = None;
        assert!(ruling(&all, (1, 0), false).is_empty());
    }
}
