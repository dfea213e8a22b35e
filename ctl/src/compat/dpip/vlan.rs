//! `dpip vlan`.

use api::{LinkInfo, Operation, Request, VlanInfo};
use config::Vlan;

use super::super::dpvs::Message;
use super::super::missing;
use super::super::{Compat, Failure, Outcome, plainly};
use super::no_verb;
use super::words::{Line, Verb, absent, stray};

pub(super) const HELP: &str = "\
Usage:
    dpip vlan add [ NAME ] link DEV [ proto 802.1q ] id VLAN-ID
    dpip vlan del { NAME | link DEV id VLAN-ID }
    dpip vlan show { NAME | [ link DEV ] [ proto 802.1q ] [ id VLAN-ID ] }
";

pub(super) fn run(compat: &mut Compat<'_>, line: &Line) -> Outcome {
    let wanted = Wanted::of(line)?;
    match line.verb {
        Verb::Show => show(compat, &wanted),
        Verb::Add => {
            let link = wanted.link.ok_or_else(|| absent("link"))?;
            let id = wanted.id.ok_or_else(|| absent("id"))?;
            let name = wanted.name.unwrap_or_else(|| format!("{link}.{id}"));
            let request = Request::new(Operation::VlanAdd).name("name", &name);
            let vlan = Vlan { link, id, kni: None };
            plainly(compat.change(Message::VLAN_ADD, request.json(&vlan)))
        }
        Verb::Del => {
            let name = match (&wanted.name, &wanted.link, wanted.id) {
                (Some(name), ..) => name.clone(),
                (None, Some(_), Some(_)) => {
                    let found = found(compat, &wanted)?.into_iter().next();
                    found.map(|(name, _)| name).ok_or_else(|| absent("VLAN"))?
                }
                (None, None, _) => return Err(absent("name or link")),
                (None, Some(_), None) => return Err(absent("id")),
            };
            let request = Request::new(Operation::VlanDelete).name("name", &name);
            plainly(compat.change(Message::VLAN_DEL, request))
        }
        _ => Err(no_verb(line)),
    }
}

/// The VLANs that are meant.
#[derive(Default)]
struct Wanted {
    name: Option<String>,
    link: Option<String>,
    id: Option<u16>,
}

impl Wanted {
    fn of(line: &Line) -> Outcome<Self> {
        let mut wanted = Self::default();
        let mut fields = line.fields();
        while let Some(word) = fields.next() {
            match word {
                "link" => wanted.link = Some(fields.value(word)?.to_owned()),
                "id" => wanted.id = Some(fields.number(word)?),
                "proto" => match fields.value(word)?.to_lowercase().as_str() {
                    "802.1q" | "vlan" => {}
                    "802.1ad" | "qinq" => {
                        return Err(Failure::not_supported("proto 802.1ad", missing::QINQ));
                    }
                    other => return Err(stray(other)),
                },
                name if wanted.name.is_none() => wanted.name = Some(name.to_owned()),
                other => return Err(stray(other)),
            }
        }
        Ok(wanted)
    }

    fn has(&self, name: &str, vlan: &VlanInfo) -> bool {
        self.name.as_ref().is_none_or(|wanted| wanted == name)
            && self.link.as_ref().is_none_or(|link| *link == vlan.link)
            && self.id.is_none_or(|id| id == vlan.id)
    }
}

fn found(compat: &Compat<'_>, wanted: &Wanted) -> Outcome<Vec<(String, VlanInfo)>> {
    let links: Vec<LinkInfo> = compat.ask(Request::new(Operation::LinkList))?;
    let vlans = links.into_iter().filter_map(|link| Some((link.name, link.vlan?)));
    Ok(vlans.filter(|(name, vlan)| wanted.has(name, vlan)).collect())
}

/// As DPVS, on standard error.
fn show(compat: &mut Compat<'_>, wanted: &Wanted) -> Outcome {
    let line = |(name, vlan): (String, VlanInfo)| {
        format!("{name} link {} proto 802.1q id {}\n", vlan.link, vlan.id)
    };
    let text: String = found(compat, wanted)?.into_iter().map(line).collect();
    compat.complain(&text)
}
