//! `dpip`: interfaces, addresses, routes and neighbours in the grammar of DPVS 1.10.2.

mod address;
mod link;
mod neighbour;
mod route;
mod vlan;
mod words;

use api::{ApplyQuery, Changes, ConfigFormat, ConfigQuery, Operation, Request};
use serde_json::{Map, Value};

use super::dpvs::Message;
use super::missing;
use super::{Compat, Failure, Outcome};
use words::{Family, Line, Verb};

/// Runs it with its words, its name not among them.
pub(super) fn run(compat: &mut Compat<'_>, words: &[&str]) -> Outcome {
    let line = Line::parse(words)?;
    if line.version {
        return compat.print("dpip of dpnat: the commands of DPVS 1.10.2\n");
    }
    if line.help || line.object.is_empty() {
        // As DPVS has it, help that is asked for by an option is a failure.
        return Err(Failure::Usage(HELP.to_owned(), 1));
    }
    match (line.object.as_str(), line.verb) {
        ("addr", Verb::Help) => compat.print(address::HELP),
        ("route", Verb::Help) => compat.print(route::HELP),
        ("neigh", Verb::Help) => compat.print(neighbour::HELP),
        ("link", Verb::Help) => compat.print(link::HELP),
        ("addr", _) => address::run(compat, &line),
        ("route", _) => route::run(compat, &line),
        ("neigh", _) => neighbour::run(compat, &line),
        ("link", _) => link::run(compat, &line),
        ("vlan", Verb::Help) => compat.print(vlan::HELP),
        ("vlan", _) => vlan::run(compat, &line),
        (object, _) => match OTHERS.iter().find(|(name, _)| *name == object) {
            Some((_, instead)) => Err(Failure::not_supported(object, instead)),
            None => Err(Failure::Usage(format!("invalid object: {object}\n{HELP}"), 1)),
        },
    }
}

/// Objects without a counterpart.
const OTHERS: [(&str, &str); 10] = [
    ("tunnel", missing::TUNNEL),
    ("qsch", missing::TC),
    ("cls", missing::TC),
    ("ipv6", missing::IPV6),
    ("iftraf", missing::IFTRAF),
    ("eal-mem", missing::EAL_MEM),
    ("ipset", missing::IPSET),
    ("flow", missing::FLOW),
    ("maddr", missing::MADDR),
    ("lldp", missing::LLDP),
];

const HELP: &str = "\
Usage:
    dpip [OPTIONS] OBJECT { COMMAND | help }
Parameters:
    OBJECT  := { link | addr | route | neigh | vlan }
    COMMAND := { add | del | show (list) | set (change) | flush }
Options:
    -v, --verbose
    -h, --help
    -V, --version
    -4, --family=inet
    -6, --family=inet6
    -s, --stats
    -i, --interval SECONDS
    -c, --count NUMBER
    -C, --color
    -F, --force
What DPVS has besides is refused by name; `dpctl compat` lists it.
";

/// What does not go with an object.
fn no_verb(line: &Line) -> Failure {
    let text = format!("invalid command for {}; see `dpip {} help`\n", line.object, line.object);
    Failure::Usage(text, 1)
}

/// Makes a section equal to what is given, as one change.
fn replace_section(
    compat: &Compat<'_>,
    message: Message,
    section: &str,
    keep: impl Fn(&Map<String, Value>) -> bool,
) -> Outcome {
    let query = ConfigQuery { format: ConfigFormat::Json };
    let config: Value = compat.ask(Request::new(Operation::ConfigGet).query(&query))?;
    let list = config.get(section).and_then(Value::as_array).cloned().unwrap_or_default();
    let kept: Vec<Value> =
        list.into_iter().filter(|entry| entry.as_object().is_none_or(&keep)).collect();
    let mut body = Map::new();
    body.insert(section.to_owned(), kept.into());
    apply(compat, message, true, &Value::Object(body))
}

fn apply(compat: &Compat<'_>, message: Message, prune: bool, body: &Value) -> Outcome {
    let query = ApplyQuery { prune, dry_run: false };
    let request = Request::new(Operation::ConfigApply).query(&query).yaml(body.to_string());
    let answer: Result<Changes, _> = compat.client.send(request);
    answer.map(drop).map_err(|error| super::refusal(message, error))
}

impl Family {
    fn shows(self, v6: bool) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => !v6,
            Self::V6 => v6,
        }
    }
}
