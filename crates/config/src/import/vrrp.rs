//! The VRRP part of `keepalived.conf`: addresses that move, and what stays for a stock keepalived.

use std::collections::{BTreeMap, BTreeSet};

use super::dpvs::is_pci;
use super::iptables::{self, Rule};
use super::output::{Yaml, quoted};
use super::tree::{Node, Read};
use super::{ImportError, Knowledge, Remarks};
use crate::keys;
use crate::text::InterfaceAddress;

/// Scripts that keepalived calls when its state changes.
const NOTIFY: [&str; 5] =
    ["notify_master", "notify_backup", "notify_fault", "notify_stop", "notify"];

/// Blocks of addresses.
const ADDRESSES: [&str; 2] = ["virtual_ipaddress", "virtual_ipaddress_excluded"];

pub(super) struct Vrrp<'a> {
    knowledge: &'a Knowledge,
    read: Read<'a>,
    /// What stays for keepalived.
    rest: String,
    has_vrrp: bool,
    /// Kernel interfaces that shall be dpnat's, and addresses that are on them.
    devs: BTreeSet<String>,
    addresses: Vec<String>,
    /// Rules of scripts, each once.
    snat: Vec<String>,
    dnat: BTreeMap<String, String>,
    seen: BTreeSet<String>,
}

impl<'a> Vrrp<'a> {
    pub fn new(knowledge: &'a Knowledge, read: Read<'a>) -> Self {
        Self {
            knowledge,
            read,
            rest: String::new(),
            has_vrrp: false,
            devs: BTreeSet::new(),
            addresses: Vec::new(),
            snat: Vec::new(),
            dnat: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Takes a block that is not of services.
    pub fn import(
        &mut self,
        node: &Node,
        yaml: &mut Yaml,
        remarks: &mut Remarks,
    ) -> Result<(), ImportError> {
        if node.name() != "vrrp_instance" {
            render(node, 0, &mut self.rest);
            return Ok(());
        }
        self.has_vrrp = true;
        let interface = node.child("interface").ok_or_else(|| {
            let name = node.value().unwrap_or_default();
            node.wrong(format!("`vrrp_instance {name}`: expected `interface NAME`"))
        })?;
        let kernel = interface.needed("the name of an interface")?;
        let dev = match node.child("dpdk_interface") {
            Some(dpdk) => dpdk.needed("the name of a device")?.to_owned(),
            None => match kernel.strip_suffix(".kni") {
                Some(dev) => dev.to_owned(),
                None => {
                    // A plain keepalived's interface: dpnat takes it, and its KNI is the kernel's.
                    self.devs.insert(kernel.to_owned());
                    let message = format!(
                        "interface {kernel}: dpnat has it, and VRRP runs on its KNI {kernel}.kni"
                    );
                    remarks.note(&interface.place, message);
                    kernel.to_owned()
                }
            },
        };
        for block in node.children().iter().filter(|child| ADDRESSES.contains(&child.name())) {
            for entry in block.children() {
                self.address(entry, &dev, yaml, remarks)?;
            }
        }
        let mut rest = node.clone();
        let children = rest.block.take().unwrap_or_default();
        let mut kept = Vec::new();
        for child in children {
            if child.name() == "dpdk_interface" {
                continue;
            }
            kept.push(self.stays(child, remarks));
        }
        rest.block = Some(kept);
        render(&rest, 0, &mut self.rest);
        Ok(())
    }

    /// A statement as a stock keepalived shall have it.
    fn stays(&mut self, mut node: Node, remarks: &mut Remarks) -> Node {
        match node.name() {
            "interface" => {
                if let Some(name) = node.words.get_mut(1).filter(|name| self.devs.contains(*name)) {
                    name.push_str(".kni");
                }
            }
            "track_interface" | "virtual_ipaddress" | "virtual_ipaddress_excluded" => {
                let names = self.devs.clone();
                let rename = |word: &mut String| {
                    if names.contains(word) {
                        word.push_str(".kni");
                    }
                };
                for child in node.block.iter_mut().flatten() {
                    child.words.iter_mut().for_each(rename);
                    // A label begins with the interface's name, and needs none.
                    if let Some(label) = child.words.iter().position(|word| word == "label") {
                        child.words.truncate(label);
                    }
                }
            }
            name if NOTIFY.contains(&name) && self.script(&node, remarks) => {
                let old = node.words.join(" ");
                node.words = vec![format!("! {old}   (dpnat has its rules)")];
            }
            _ => {}
        }
        node
    }

    fn address(
        &mut self,
        node: &Node,
        dev: &str,
        yaml: &mut Yaml,
        remarks: &mut Remarks,
    ) -> Result<(), ImportError> {
        let text = node.name();
        let address: InterfaceAddress = text.parse().map_err(|_| {
            node.wrong(format!("`{text}`: expected an address, as in `10.0.96.201/24 dev eth0`"))
        })?;
        let mut words = node.words.iter().skip_while(|word| *word != "dev");
        let on = words.nth(1).map_or(dev, |dev| dev.strip_suffix(".kni").unwrap_or(dev));
        let line =
            format!("- {{ address: \"{address}\", dev: {}, active: with-kernel }}", quoted(on));
        if keys::key("interfaces.*.kni").is_none() {
            let message = format!("{address}: this version does not follow the kernel's addresses");
            remarks.warn(&node.place, message);
        }
        self.addresses.push(address.address().to_string());
        yaml.add("addresses", &node.comments, &[line]);
        Ok(())
    }

    /// Looks for rules of NAT in a script; true if there is nothing else in it that matters.
    fn script(&mut self, node: &Node, remarks: &mut Remarks) -> bool {
        let Some(path) = node.value() else { return false };
        let path = path.split_whitespace().next().unwrap_or(path);
        let sources = match (self.read)(path, Some(&node.place.file)) {
            Ok(sources) => sources,
            Err(why) => {
                let message = format!("{} {path}: {why}; its rules are not known", node.name());
                remarks.note(&node.place, message);
                return false;
            }
        };
        let mut whole = true;
        for source in sources {
            for (number, line) in (1..).zip(source.text.lines()) {
                let place = super::Place { file: source.name.clone(), line: number };
                match iptables::read(line.trim()) {
                    None => {
                        let line = line.trim();
                        whole &=
                            line.is_empty() || line.starts_with('#') || line.starts_with("echo ");
                    }
                    Some(Ok(Rule::Nothing)) => {}
                    Some(Ok(rule)) => self.rule(rule, &place, remarks),
                    Some(Err(why)) => {
                        remarks.warn(&place, format!("`{}`: {why}", line.trim()));
                        whole = false;
                    }
                }
            }
        }
        whole
    }

    fn rule(&mut self, rule: Rule, place: &super::Place, remarks: &mut Remarks) {
        match rule {
            Rule::Snat(text) => {
                if self.seen.insert(text.clone()) {
                    self.snat.push(text);
                    remarks.note(place, "it is a rule of `snat` now");
                }
            }
            Rule::Dnat { protocol, on, ports, to } => {
                let Some(on) = on.or_else(|| self.addresses.first().cloned()) else {
                    remarks.warn(place, "a port forward needs an address of its own: expected -d");
                    return;
                };
                let name = format!("{protocol}-{ports}");
                let text = format!("on: \"{on}:{ports}\", protocol: {protocol}, to: \"{to}\"");
                self.dnat.insert(name, text);
                remarks.note(place, "it is a rule of `dnat` now");
            }
            Rule::Nothing => {}
        }
    }

    pub fn finish(self, yaml: &mut Yaml, _: &mut Remarks) -> Option<String> {
        for dev in &self.devs {
            let mut comments = Vec::new();
            let place = match self.knowledge.devices.get(dev) {
                Some(device) if is_pci(device) => format!("pci: \"{device}\""),
                Some(device) => format!("device: {}", quoted(device)),
                None => {
                    let address = format!("/sys/class/net/{dev}/device");
                    comments.push(format!("The PCI address of {dev} is where {address} leads."));
                    "pci: \"0000:00:00.0\"".to_owned()
                }
            };
            let kni = match keys::key("interfaces.*.kni") {
                Some(_) => format!(", kni: {dev}.kni"),
                None => String::new(),
            };
            yaml.add("interfaces", &comments, &[format!("{}: {{ {place}{kni} }}", quoted(dev))]);
        }
        for (number, rule) in (1..).zip(&self.snat) {
            yaml.line("snat", format!("nat-{number}: {{ {rule} }}"));
        }
        for (name, rule) in &self.dnat {
            yaml.line("dnat", format!("{name}: {{ {rule} }}"));
        }
        self.has_vrrp.then_some(self.rest)
    }
}

/// A statement as keepalived reads it.
fn render(node: &Node, depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth);
    for comment in &node.comments {
        text.push_str(&format!("{indent}! {comment}\n"));
    }
    let words: Vec<String> = node.words.iter().map(|word| in_quotes(word)).collect();
    text.push_str(&format!("{indent}{}", words.join(" ")));
    let Some(children) = &node.block else {
        text.push('\n');
        return;
    };
    text.push_str(" {\n");
    for child in children {
        render(child, depth + 1, text);
    }
    for comment in &node.last_comments {
        text.push_str(&format!("{indent}    ! {comment}\n"));
    }
    text.push_str(&format!("{indent}}}\n"));
}

/// Words with blanks need quotes; a comment is none.
fn in_quotes(word: &str) -> String {
    let needs = word.is_empty() || word.contains(char::is_whitespace);
    if needs && !word.starts_with("! ") { format!("\"{word}\"") } else { word.to_owned() }
}
