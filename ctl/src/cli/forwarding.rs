//! Verbs of forwarding.

use clap::{Args, Subcommand};
use config::{ForwardingAction, ForwardingPolicy, ReversePath};
use serde_json::{Map, Value};

use super::nat::{MatchArgs, PlaceArgs};
use super::service::put;
use super::values::{ListOr, one_of};

/// What is done with routing between interfaces.
#[derive(Clone, Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, while a command runs")]
pub enum ForwardingVerb {
    /// Show the policy and the rules in order
    #[command(visible_alias = "list")]
    Show,
    /// Change what holds for packets that meet no rule
    Set(ForwardingSet),
    /// Rules: the first that a packet meets decides
    #[command(subcommand)]
    Rule(ForwardingRuleVerb),
}

/// Settings of forwarding that change.
#[derive(Clone, Debug, Args)]
pub struct ForwardingSet {
    /// What becomes of packets that meet no rule; auto accepts if there is any rule
    #[arg(long, value_parser = one_of::<ForwardingPolicy>(&["auto", "accept", "drop"]))]
    pub policy: Option<ForwardingPolicy>,
    /// Whether the source of a packet must have a route back
    #[arg(long, value_parser = one_of::<ReversePath>(&["off", "loose", "strict"]))]
    pub reverse_path: Option<ReversePath>,
    /// Interfaces by which no sender is told why its packet was dropped, with commas between them, or `none`
    #[arg(long, value_name = "INTERFACES")]
    pub silent: Option<ListOr<String>>,
}

impl ForwardingSet {
    /// The fields of the API's settings that are given.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put(&mut fields, "policy", self.policy);
        put(&mut fields, "reverse_path", self.reverse_path);
        put(&mut fields, "silent", self.silent.as_ref());
        fields
    }
}

/// What is done with rules of forwarding.
#[derive(Clone, Debug, Subcommand)]
pub enum ForwardingRuleVerb {
    /// Add one; last, unless a place is given
    Add(ForwardingRuleAdd),
    /// Change one
    Set(ForwardingRuleSet),
    /// Remove one
    #[command(visible_alias = "delete")]
    Del(ForwardingRuleDel),
}

/// A new rule of forwarding.
#[derive(Clone, Debug, Args)]
pub struct ForwardingRuleAdd {
    /// Its name
    #[arg(value_name = "RULE")]
    pub name: String,
    /// What is done with what matches
    #[arg(long, value_parser = one_of::<ForwardingAction>(&["accept", "drop", "reject"]))]
    pub action: ForwardingAction,
    /// Its place.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Its match.
    #[command(flatten)]
    pub matches: MatchArgs,
}

/// A rule of forwarding that changes.
#[derive(Clone, Debug, Args)]
pub struct ForwardingRuleSet {
    /// Its name
    #[arg(value_name = "RULE")]
    pub name: String,
    /// What is done with what matches
    #[arg(long, value_parser = one_of::<ForwardingAction>(&["accept", "drop", "reject"]))]
    pub action: Option<ForwardingAction>,
    /// Its place.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Its match.
    #[command(flatten)]
    pub matches: MatchArgs,
}

/// A rule of forwarding that goes.
#[derive(Clone, Debug, Args)]
pub struct ForwardingRuleDel {
    /// Its name
    #[arg(value_name = "RULE")]
    pub name: String,
}

fn forwarding_rule(action: Option<ForwardingAction>, matches: &MatchArgs) -> Map<String, Value> {
    let mut fields = Map::new();
    put(&mut fields, "action", action);
    let matches = matches.fields();
    put(&mut fields, "match", (!matches.is_empty()).then_some(matches));
    fields
}

impl ForwardingRuleAdd {
    /// The fields of the API's rule that are given.
    pub fn fields(&self) -> Map<String, Value> {
        forwarding_rule(Some(self.action), &self.matches)
    }
}

impl ForwardingRuleSet {
    /// The fields of the API's rule that are given.
    pub fn fields(&self) -> Map<String, Value> {
        forwarding_rule(self.action, &self.matches)
    }
}
