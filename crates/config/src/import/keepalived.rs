//! `keepalived.conf`, DPVS's or the usual one: its blocks, and what becomes of each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::output::{Yaml, name_of};
use super::services::Services;
use super::tree::{Node, Read};
use super::vrrp::Vrrp;
use super::{ImportError, Knowledge, Place, Remarks};
use crate::text::{AddressRange, ParseTextError};

/// Groups of DPVS's by name.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    /// Local addresses.
    pub local: BTreeMap<String, &'a Node>,
    /// VIPs with their ports.
    pub virtuals: BTreeMap<String, &'a Node>,
}

/// What stays for a keepalived that is not DPVS's, if anything does.
pub(super) fn import(
    nodes: &[Node],
    knowledge: &Knowledge,
    read: Read<'_>,
    yaml: &mut Yaml,
    remarks: &mut Remarks,
) -> Result<Option<String>, ImportError> {
    let mut groups = Groups::default();
    for node in nodes {
        let of = match node.name() {
            "local_address_group" => &mut groups.local,
            "virtual_server_group" => &mut groups.virtuals,
            _ => continue,
        };
        let name = node.needed("the name of a group")?;
        if of.insert(name.to_owned(), node).is_some() {
            return Err(node.wrong(format!("the group `{name}` is there twice")));
        }
    }
    for (name, node) in &groups.local {
        pool(name, node, yaml)?;
    }
    let mut services = Services::new(&groups, knowledge);
    let mut vrrp = Vrrp::new(knowledge, read);
    for node in nodes {
        match node.name() {
            "local_address_group" | "virtual_server_group" => {}
            "virtual_server" => services.import(node, yaml, remarks)?,
            // They matter where a service names them.
            "deny_address_group"
            | "allow_address_group"
            | "blacklist_address_group"
            | "whitelist_address_group" => {}
            "tunnel_group" | "tunnel_entry" => {
                remarks.warn(&node.place, format!("{}: there are no tunnel devices", node.name()));
            }
            _ => vrrp.import(node, yaml, remarks)?,
        }
    }
    for (name, node) in &groups.virtuals {
        if !services.used.contains(name) {
            remarks.note(&node.place, format!("virtual_server_group {name}: no service has it"));
        }
    }
    Ok(vrrp.finish(yaml, remarks))
}

/// Addresses on one interface, as a pool.
fn pool(name: &str, node: &Node, yaml: &mut Yaml) -> Result<(), ImportError> {
    let mut addresses = Vec::new();
    let mut dev: Option<&str> = None;
    let mut comments = node.comments.clone();
    for entry in node.children() {
        let range = entry.name();
        let _: AddressRange =
            range.parse().map_err(|why: ParseTextError| entry.wrong(why.to_string()))?;
        let on = entry.needed("an interface behind the address, as in `192.0.2.1 dpdk1`")?;
        if dev.is_some_and(|dev| dev != on) {
            let message = format!("`{range} {on}`: the group's addresses are on one interface");
            return Err(entry.wrong(message));
        }
        dev = Some(on);
        addresses.push(range.to_owned());
        comments.extend(entry.comments.iter().cloned());
    }
    comments.extend(node.last_comments.iter().cloned());
    let Some(dev) = dev else {
        return Err(
            node.wrong(format!("the group `{name}` is empty: expected `ADDRESS INTERFACE`"))
        );
    };
    let name = name_of(name);
    let line = format!("{name}: {{ addresses: [ {} ], dev: {dev} }}", quoted_list(&addresses));
    yaml.add("local_address_pools", &comments, &[line]);
    Ok(())
}

pub(super) fn quoted_list(list: &[String]) -> String {
    list.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

/// What two nodes must not both have.
pub(super) fn compare(ours: &[Node], theirs: &[Node], remarks: &mut Remarks) {
    let theirs = lips(theirs);
    for (address, place) in lips(ours) {
        if let Some((_, other)) = theirs.iter().find(|(known, _)| *known == address) {
            let message = format!(
                "LIP {address}: the other node names it, too ({other}); both would answer for it: \
                 give each node LIPs of its own"
            );
            remarks.warn(&place, message);
        }
    }
}

fn lips(nodes: &[Node]) -> Vec<(IpAddr, Place)> {
    let groups = nodes.iter().filter(|node| node.name() == "local_address_group");
    let entries = groups.flat_map(Node::children);
    let all = entries.filter_map(|entry| {
        let range: AddressRange = entry.name().parse().ok()?;
        Some(range.addresses().map(|address| (address, entry.place.clone())).collect::<Vec<_>>())
    });
    all.flatten().collect()
}
