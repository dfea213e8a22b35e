//! `iptables` lines of scripts, as rules of NAT.

use super::output::quoted;

/// What a line of a script comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A rule of source NAT: its match, and what it does, as YAML.
    Snat(String),
    /// A port forward: its protocol, its own address if it has one, port, and target.
    Dnat { protocol: String, on: Option<String>, ports: String, to: String },
    /// It prepares or clears what needs no preparation here.
    Nothing,
}

/// A line of a shell script that is about NAT; `None` if it is not.
///
/// # Errors
/// If it is, and is not understood.
pub(super) fn read(line: &str) -> Option<Result<Rule, String>> {
    let mut words = line.split_whitespace().skip_while(|word| *word == "sudo").peekable();
    let program = words.next()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    match program {
        "sysctl" if line.contains("ip_forward") => Some(Ok(Rule::Nothing)),
        "iptables" => {
            let words: Vec<&str> = words.collect();
            let mut table = words.iter().skip_while(|word| **word != "-t" && **word != "--table");
            match table.nth(1) {
                Some(&"nat") => Some(rule(&words)),
                _ => Some(Err("it is not of the table nat".to_owned())),
            }
        }
        _ => None,
    }
}

#[derive(Debug, Default)]
struct Parts {
    chain: String,
    target: String,
    matches: Vec<(&'static str, String)>,
    except: Vec<(&'static str, String)>,
    protocol: Option<String>,
    destination: Option<String>,
    ports: Option<String>,
    to_source: Option<String>,
    to_destination: Option<String>,
}

fn rule(words: &[&str]) -> Result<Rule, String> {
    if words.iter().any(|word| matches!(*word, "-F" | "--flush" | "-X" | "-Z")) {
        return Ok(Rule::Nothing);
    }
    let Parts {
        chain,
        target,
        matches,
        except,
        protocol,
        destination,
        ports,
        to_source,
        to_destination,
    } = parts(words)?;
    let fields = |list: &[(&str, String)]| {
        let fields: Vec<String> =
            list.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        fields.join(", ")
    };
    let mut text = fields(&matches);
    if !except.is_empty() {
        let comma = if text.is_empty() { "" } else { ", " };
        text.push_str(&format!("{comma}except: {{ {} }}", fields(&except)));
    }
    let matched = if text.is_empty() { String::new() } else { format!("match: {{ {text} }}, ") };
    match (chain.as_str(), target.as_str()) {
        ("POSTROUTING", "RETURN" | "ACCEPT") => Ok(Rule::Snat(format!("{matched}action: accept"))),
        ("POSTROUTING", "MASQUERADE") => {
            Ok(Rule::Snat(format!("{matched}wan_addresses: [ interface ]")))
        }
        ("POSTROUTING", "SNAT") => {
            let wan = to_source.ok_or("expected --to-source ADDRESS")?;
            let (address, ports) = wan.split_once(':').map_or((&*wan, None), |(a, p)| (a, Some(p)));
            let ports = ports.map(|ports| format!(", ports: \"{ports}\"")).unwrap_or_default();
            Ok(Rule::Snat(format!("{matched}wan_addresses: [ \"{address}\" ]{ports}")))
        }
        ("PREROUTING", "DNAT") => {
            let protocol = protocol.ok_or("expected -p tcp or -p udp")?;
            let ports = ports.ok_or("expected --dport PORT")?;
            let to = to_destination.ok_or("expected --to-destination ADDRESS[:PORT]")?;
            let to = if to.contains(':') { to } else { format!("{to}:{ports}") };
            Ok(Rule::Dnat { protocol, on: destination, ports, to })
        }
        (chain, target) => Err(format!("`-A {chain} … -j {target}` has no counterpart")),
    }
}

/// `a,b` as a list.
fn list(text: &str) -> String {
    let items: Vec<String> = text.split(',').map(quoted).collect();
    format!("[ {} ]", items.join(", "))
}

/// `a:b,c` as a list of ports.
fn ports(text: &str) -> String {
    let items: Vec<String> =
        text.replace(':', "-").split(',').map(|ports| format!("\"{ports}\"")).collect();
    format!("[ {} ]", items.join(", "))
}

fn parts(words: &[&str]) -> Result<Parts, String> {
    let mut parts = Parts::default();
    let mut words = words.iter().copied();
    let mut not = false;
    while let Some(word) = words.next() {
        if word == "!" {
            not = true;
            continue;
        }
        if matches!(word, "-w" | "--wait" | "--random" | "--random-fully" | "--persistent") {
            continue;
        }
        if matches!(word, "-I" | "--insert") {
            return Err("`-I` puts a rule before others: expected -A".to_owned());
        }
        let mut value = words.next();
        if value == Some("!") {
            not = true;
            value = words.next();
        }
        let value = value.ok_or_else(|| format!("`{word}` needs a value"))?.to_owned();
        parts.option(word, value, not)?;
        not = false;
    }
    Ok(parts)
}

impl Parts {
    fn option(&mut self, word: &str, value: String, not: bool) -> Result<(), String> {
        let (key, text) = match word {
            "-t" | "--table" | "-m" | "--match" => return Ok(()),
            "-A" | "--append" => {
                self.chain = value;
                return Ok(());
            }
            "-j" | "--jump" => {
                self.target = value;
                return Ok(());
            }
            "--to-source" => {
                self.to_source = Some(value);
                return Ok(());
            }
            "--to-destination" => {
                self.to_destination = Some(value);
                return Ok(());
            }
            "-s" | "--source" | "--src" => ("source", list(&value)),
            "-d" | "--destination" | "--dst" => {
                self.destination = (!not).then(|| value.clone());
                ("destination", list(&value))
            }
            "-p" | "--protocol" => {
                self.protocol = (!not).then(|| value.clone());
                ("protocol", list(&value))
            }
            "--dport" | "--dports" | "--destination-port" => {
                self.ports = (!not).then(|| value.replace(':', "-"));
                ("destination_ports", ports(&value))
            }
            "--sport" | "--sports" | "--source-port" => ("source_ports", ports(&value)),
            "-i" | "--in-interface" => ("in_dev", quoted(&value)),
            "-o" | "--out-interface" => ("out_dev", quoted(&value)),
            other => return Err(format!("`{other}` is not understood")),
        };
        match (not, key) {
            (true, "in_dev" | "out_dev") => return Err(format!("`! {word}` has no counterpart")),
            (true, _) => self.except.push((key, text)),
            (false, _) => self.matches.push((key, text)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snat(line: &str) -> String {
        match read(line) {
            Some(Ok(Rule::Snat(text))) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn rules_of_a_nat_gateway_are_understood() {
        assert_eq!(
            snat("iptables -t nat -A POSTROUTING -d 100.64.0.0/10 -j RETURN"),
            "match: { destination: [ \"100.64.0.0/10\" ] }, action: accept"
        );
        assert_eq!(
            snat(
                "iptables -t nat -A POSTROUTING -s 10.0.0.0/8 ! -p vrrp -j SNAT --to-source 10.100.1.0"
            ),
            "match: { source: [ \"10.0.0.0/8\" ], except: { protocol: [ vrrp ] } }, \
             wan_addresses: [ \"10.100.1.0\" ]"
        );
        assert_eq!(
            snat("/sbin/iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE"),
            "match: { out_dev: eth0 }, wan_addresses: [ interface ]"
        );
        let line = "sudo iptables -t nat -A PREROUTING -p tcp --dport 10106 -j DNAT \
                    --to-destination 172.16.102.6:22";
        let forward = Rule::Dnat {
            protocol: "tcp".into(),
            on: None,
            ports: "10106".into(),
            to: "172.16.102.6:22".into(),
        };
        assert_eq!(read(line), Some(Ok(forward)));
    }

    #[test]
    fn what_is_no_rule_is_left_alone_and_what_is_not_understood_is_told() {
        assert_eq!(read("echo \"start; `date`\" >> /tmp/log"), None);
        assert_eq!(read("#!/bin/bash"), None);
        assert_eq!(read("iptables -t nat -F"), Some(Ok(Rule::Nothing)));
        assert_eq!(read("sysctl -w net.ipv4.ip_forward=1"), Some(Ok(Rule::Nothing)));
        for line in [
            "iptables -A INPUT -j DROP",
            "iptables -t nat -A POSTROUTING -m mark --mark 1 -j MASQUERADE",
            "iptables -t nat -A POSTROUTING ! -o eth0 -j MASQUERADE",
            "iptables -t nat -A POSTROUTING -j SNAT",
            "iptables -t nat -A OUTPUT -j DNAT --to-destination 10.0.0.1",
        ] {
            assert!(matches!(read(line), Some(Err(_))), "{line}");
        }
    }
}
