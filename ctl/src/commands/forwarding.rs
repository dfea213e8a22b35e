//! Forwarding: its policy and its rules.

use api::{ForwardingInfo, Operation, Request};

use super::nat::{all_if_empty, changed, placed, rule};
use super::services::something;
use crate::cli::{ForwardingRuleVerb, ForwardingVerb, Options};
use crate::output::{Table, details, name};
use crate::session::{Outcome, Session};
use crate::units;

pub(super) fn forwarding(session: &mut Session<'_>, verb: &ForwardingVerb) -> Outcome {
    match verb {
        ForwardingVerb::Show => {
            let info: ForwardingInfo = session.ask(Request::new(Operation::ForwardingGet))?;
            session.print(&info, show_forwarding)
        }
        ForwardingVerb::Set(change) => {
            let fields = something(change.fields(), "--policy, --reverse-path or --silent")?;
            session.change(Request::new(Operation::ForwardingSet).json(&fields))
        }
        ForwardingVerb::Rule(ForwardingRuleVerb::Add(new)) => {
            let request = placed(Operation::ForwardingRuleAdd, &new.name, &new.place);
            session.change(request.json(&new.fields()))
        }
        ForwardingVerb::Rule(ForwardingRuleVerb::Set(change)) => {
            let fields = changed(change.fields(), &change.place)?;
            let request = placed(Operation::ForwardingRuleSet, &change.name, &change.place);
            session.change(request.json(&fields))
        }
        ForwardingVerb::Rule(ForwardingRuleVerb::Del(old)) => {
            session.change(rule(Operation::ForwardingRuleDelete, &old.name))
        }
    }
}

fn show_forwarding(info: &ForwardingInfo, options: &Options) -> String {
    let now = if info.accepts { "accepts" } else { "drops" };
    if options.brief {
        let line = |rule: &api::ForwardingRuleInfo| {
            format!("{} {} {}\n", rule.position, rule.name, name(&rule.config.action))
        };
        let rules: String = info.rules.iter().map(line).collect();
        return format!("{rules}policy {}\n", name(&info.policy));
    }
    let mut text = details(&[
        ("policy", format!("{}: {now} what meets no rule", name(&info.policy))),
        ("reverse path", name(&info.reverse_path)),
        ("silent", info.silent.join(" ")),
        ("forwarded", units::count(info.forwarded, "packet")),
        ("denied", units::count(info.denied, "packet")),
        ("no way back", units::count(info.reverse_path_drops, "packet")),
    ]);
    let mut table = Table::new(&["#", "NAME", "ACTION", ">PACKETS", ">BYTES", "MATCH"]);
    for rule in &info.rules {
        table.row([
            rule.position.to_string(),
            rule.name.clone(),
            name(&rule.config.action),
            rule.packets.to_string(),
            units::bytes(rule.bytes),
            all_if_empty(&rule.config.matches),
        ]);
    }
    text.push('\n');
    text.push_str(&table.text("no rules"));
    text
}
