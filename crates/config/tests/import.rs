//! Files of DPVS and keepalived: what comes of them, and that it is a configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use config::import::{self, Importance, Imported, Knowledge, Loss, Source};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// Reads from `tests/import`; a script by its name alone, as if it were beside the file.
fn read(name: &str, from: Option<&str>) -> Result<Vec<Source>, String> {
    let name = match from {
        Some(from) => {
            let beside = Path::new(from).parent().unwrap_or(Path::new(""));
            beside.join(Path::new(name).file_name().unwrap()).to_str().unwrap().to_owned()
        }
        None => name.to_owned(),
    };
    let text = std::fs::read_to_string(folder().join(&name)).map_err(|why| why.to_string())?;
    Ok(vec![Source { name, text }])
}

fn text(text: &str) -> impl Fn(&str, Option<&str>) -> Result<Vec<Source>, String> {
    move |name, _| match name {
        "it" => Ok(vec![Source { name: "it".to_owned(), text: text.to_owned() }]),
        _ => Err("there is no such file".to_owned()),
    }
}

fn warnings(imported: &Imported) -> Vec<String> {
    let warns = imported.remarks.iter().filter(|remark| remark.importance == Importance::Warning);
    warns.map(ToString::to_string).collect()
}

/// Checks what came out as the daemon does at its start.
#[track_caller]
fn is_valid(yaml: &str) {
    // Where the kernel's addresses are not followed yet, the rest is checked.
    let yaml = if config::KEYS.iter().any(|key| key.path == "interfaces.*.kni") {
        yaml.to_owned()
    } else {
        yaml.replace("active: with-kernel", "active: always")
    };
    if let Err(errors) = config::load(&yaml, "imported.yaml") {
        panic!("{errors}\n{yaml}");
    }
}

#[test]
fn a_dpvs_conf_of_two_bonds() {
    let imported = import::dpvs("bond.conf", &read, &Knowledge::default()).unwrap();
    let yaml = &imported.yaml;
    for line in [
        "workers:\n  cpus: \"1\"",
        "  dpdk0: { pci: \"0000:00:00.0\", rx_descriptors: 1024, tx_descriptors: 1024 }",
        "  dpdk3: { pci: \"0000:03:00.0\", rx_descriptors: 1024, tx_descriptors: 1024 }",
        "bond1: { members: [ dpdk0, dpdk1 ], mode: 4, primary: dpdk0, kni: bond1.kni }",
        // Comments survive.
        "  # kni_name              dpdk0.kni",
    ] {
        assert!(yaml.contains(line), "{line}\n{yaml}");
    }
    is_valid(yaml);
    let text: Vec<String> = imported.remarks.iter().map(ToString::to_string).collect();
    let told = |what: &str| text.iter().any(|line| line.contains(what));
    assert!(told("bond.conf:3: not needed: pktpool_size: "), "{text:#?}");
    assert!(told("bond.conf:8: not needed: max_burst_size: "), "{text:#?}");
    assert!(told(": not needed: pballoc: "), "{text:#?}");
    // Whatever this version has not, nothing else is lost.
    assert!(warnings(&imported).iter().all(|warning| warning.contains("this version")));
}

#[test]
fn a_dpvs_conf_with_every_key() {
    let knowledge = Knowledge {
        devices: BTreeMap::from([
            ("dpdk0".to_owned(), "0000:81:00.0".to_owned()),
            ("dpdk1".to_owned(), "net_af_packet0,iface=lan0".to_owned()),
        ]),
        ..Knowledge::default()
    };
    let imported = import::dpvs("items.conf", &read, &knowledge).unwrap();
    let yaml = &imported.yaml;
    for line in [
        "log:\n  level: warn",
        "workers:\n  cpus: \"1,2\"",
        "  max_connections: 1048576",
        "  timeouts: { udp_oneway: 300s, udp: 300s, tcp_established: 90s, tcp_syn: 30s, \
         tcp_closing: 7s, tcp_closed: 7s }",
        "  dpdk0: { pci: \"0000:81:00.0\", queues: 8, rx_descriptors: 256, tx_descriptors: 512, \
         mtu: 1500",
        "  dpdk1: { device: \"net_af_packet0,iface=lan0\"",
        "forwarding:\n  policy: accept",
    ] {
        assert!(yaml.contains(line), "{line}\n{yaml}");
    }
    is_valid(yaml);
    let lost = warnings(&imported);
    let expected = ["uoa_mode", "uoa_max_trail", "defence_udp_drop", "kni_name"];
    assert!(
        lost.iter().all(|warning| expected.iter().any(|key| warning.contains(key))),
        "{lost:#?}"
    );
}

#[test]
fn a_keepalived_conf_of_dpvs() {
    let imported =
        import::keepalived("keepalived.conf", None, &read, &Knowledge::default()).unwrap();
    let yaml = &imported.yaml;
    for line in [
        "  laddr_g1: { addresses: [ \"192.168.229.201\" ], dev: bond1 }",
        "  - { address: \"10.0.96.201/32\", dev: bond2, active: with-kernel }",
        "  - { address: \"2001::202/128\", dev: bond2, active: with-kernel }",
        "  10.0.96.201-80:\n    vips: [ \"10.0.96.201:80\", \"10.0.96.202:80\" ]\n    protocol: tcp\n    \
         scheduler: rr\n    local_pool: laddr_g1\n    health: { type: tcp, interval: 3s, timeout: 3s, fall: 1, \
         retries: 2, retry_delay: 1s, on_failure: inhibit }\n    servers:\n      \
         - { address: \"192.168.229.1:80\", weight: 100 }\n      \
         - { address: \"192.168.229.2:80\", weight: 100 }",
        "    vips: [ \"[2001::201]:80\", \"[2001::202]:80\" ]",
    ] {
        assert!(yaml.contains(line), "{line}\n{yaml}");
    }
    assert_eq!(yaml.matches("laddr_g1: {").count(), 1, "a group is imported once");
    let rest = imported.keepalived.as_ref().expect("VRRP stays");
    assert!(rest.contains("vrrp_instance VI_1 {"), "{rest}");
    assert!(rest.contains("    interface bond2.kni\n"), "{rest}");
    assert!(rest.contains("        10.0.96.202\n"), "{rest}");
    for gone in ["dpdk_interface bond2", "virtual_server", "local_address_group"] {
        assert!(!rest.contains(gone), "{gone}\n{rest}");
    }
    assert_eq!(warnings(&imported), [] as [&str; 0]);
    config::Overlay::parse(yaml, "imported.yaml").unwrap();
    // Its interfaces are those of the dpvs.conf; the IPv4 part of it is checked over them.
    let v4 = "keepalived-v4.conf";
    let v4 = import::keepalived(v4, None, &read, &Knowledge::default()).unwrap().yaml;
    let interfaces = "interfaces:\n  bond1: { device: net_null0 }\n  bond2: { device: net_null1, kni: bond2.kni }\n";
    is_valid(&format!("{v4}{interfaces}"));
}

#[test]
fn a_pair_of_nat_gateways() {
    let imported =
        import::keepalived("havip/keepalived.conf", None, &read, &Knowledge::default()).unwrap();
    let yaml = &imported.yaml;
    for line in [
        "  eth0: { pci: \"0000:00:00.0\"",
        "  - { address: \"10.100.1.0/32\", dev: eth0, active: with-kernel }",
        "  nat-1: { match: { destination: [ \"100.64.0.0/10\" ] }, action: accept }",
        "  nat-2: { match: { source: [ \"10.0.0.0/8\" ], except: { protocol: [ vrrp ] } }, \
         wan_addresses: [ \"10.100.1.0\" ] }",
        "  tcp-10106: { on: \"10.100.1.0:10106\", protocol: tcp, to: \"172.16.102.6:22\" }",
    ] {
        assert!(yaml.contains(line), "{line}\n{yaml}");
    }
    is_valid(yaml);
    let rest = imported.keepalived.expect("VRRP stays");
    for line in [
        "    interface eth0.kni\n",
        "        10.100.1.0 dev eth0.kni\n",
        "    ! notify_master /etc/keepalived/scripts/ha_vip_start.sh",
        "    unicast_src_ip 10.100.1.1\n",
        "        10.100.1.2\n",
        "        auth_pass 1111\n",
    ] {
        assert!(rest.contains(line), "{line}\n{rest}");
    }
}

#[test]
fn plain_files_of_keepalived() {
    for file in ["plain/keepalived-zh.conf", "plain/keepalived-havip.conf"] {
        let imported = import::keepalived(file, None, &read, &Knowledge::default()).unwrap();
        is_valid(&imported.yaml);
        let rest = imported.keepalived.expect("VRRP stays");
        assert!(rest.contains("interface eth0.kni"), "{rest}");
        assert!(rest.contains("virtual_router_id 51"), "{rest}");
    }
    let zh = import::keepalived("plain/keepalived-zh.conf", None, &read, &Knowledge::default());
    let zh = zh.unwrap();
    assert!(zh.yaml.contains("  nat-3: { match: { source: [ \"192.168.0.0/16\" ]"), "{}", zh.yaml);
    assert!(zh.keepalived.unwrap().contains("smtp_connect_timeout 30"));
    let havip = "plain/keepalived-havip.conf";
    let havip = import::keepalived(havip, None, &read, &Knowledge::default()).unwrap();
    let rest = havip.keepalived.unwrap();
    assert!(rest.contains("! Specify ECS1 as the primary ECS instance."), "{rest}");
}

#[test]
fn a_lip_that_both_nodes_have_is_told() {
    let file = "keepalived.conf";
    let imported = import::keepalived(file, Some(file), &read, &Knowledge::default()).unwrap();
    let told = warnings(&imported);
    assert!(told.iter().any(|warning| warning.contains("LIP 192.168.229.201")), "{told:#?}");
}

#[test]
fn what_must_not_be_lost_is_an_error_unless_it_is_accepted() {
    const GUARDED: &str = "local_address_group l {\n 10.0.0.1 dpdk1\n}\n\
        virtual_server 10.0.1.1 80 {\n laddr_group_name l\n syn_proxy\n daddr_group_name bad\n \
        real_server 10.0.2.1 80 {\n }\n}\n";
    let read = text(GUARDED);
    let refused = import::keepalived("it", None, &read, &Knowledge::default()).unwrap_err();
    assert!(refused.to_string().starts_with("it:6: syn_proxy: "), "{refused}");
    assert!(refused.message.contains("--accept-loss synproxy"), "{refused}");
    let some = Knowledge { accepted: BTreeSet::from([Loss::SynProxy]), ..Knowledge::default() };
    let refused = import::keepalived("it", None, &read, &some).unwrap_err();
    assert!(refused.to_string().starts_with("it:7: daddr_group_name: "), "{refused}");
    let all = Knowledge { accepted: BTreeSet::from(Loss::ALL), ..Knowledge::default() };
    let imported = import::keepalived("it", None, &read, &all).unwrap();
    assert_eq!(warnings(&imported).len(), 2);
    is_valid(&(imported.yaml + "interfaces: { dpdk1: { device: net_null0 } }\n"));
}

#[test]
fn headers_of_the_proxy_protocol_are_kept() {
    const SERVICE: &str = "local_address_group l {\n 10.0.0.1 dpdk1\n}\n\
        virtual_server 10.0.1.1 80 {\n protocol PROTOCOL\n laddr_group_name l\n proxy_protocol VERSION\n \
        real_server 10.0.2.1 80 {\n }\n}\n";
    for (protocol, version, lines) in [
        ("TCP", "disable", &[][..]),
        ("TCP", "v1", &["client_address: proxy-v1"]),
        (
            "TCP",
            "v2-insecure",
            &["client_address: proxy-v2", "proxy_protocol: { client_header: trust }"],
        ),
        ("UDP", "v2", &["client_address: proxy-v2", "proxy_protocol: { datagrams: first }"]),
    ] {
        let file = SERVICE.replace("PROTOCOL", protocol).replace("VERSION", version);
        let imported = import::keepalived("it", None, &text(&file), &Knowledge::default()).unwrap();
        assert!(warnings(&imported).is_empty(), "{version}");
        let found: Vec<_> =
            imported.yaml.lines().map(str::trim).filter(|line| line.contains("proxy")).collect();
        assert_eq!(found, lines, "{version}");
        is_valid(&(imported.yaml + "interfaces: { dpdk1: { device: net_null0 } }\n"));
    }
}

#[test]
fn broken_files_are_told_with_their_line() {
    for (broken, told) in [
        (
            "virtual_server 10.0.1.1 80 {\n proxy_protocol v3\n}\n",
            "it:2: `proxy_protocol v3`: expected one of disable, v1, v2, v1-insecure or v2-insecure",
        ),
        (
            "virtual_server 10.0.1.1 80 {\n protocol UDP\n proxy_protocol v1\n}\n",
            "it:1: `proxy_protocol v1` is for TCP only; expected v2",
        ),
        (
            "virtual_server 10.0.1.1 80 {\n lb_algo best\n}\n",
            "it:2: `lb_algo best`: expected one of rr,",
        ),
        ("virtual_server 10.0.1.1 80 {\n lb_kind DR\n}\n", "it:1: `lb_kind DR`: "),
        ("virtual_server 10.0.1.1 {\n}\n", "it:1: `10.0.1.1 `: expected an address and a port"),
        ("virtual_server group none {\n}\n", "it:1: there is no `virtual_server_group none`"),
        (
            "virtual_server 1.1.1.1 80 {\n laddr_group_name x\n}\n",
            "it:2: there is no `local_address_group x`",
        ),
        (
            "virtual_server 1.1.1.1 80 {\n real_server 1.1.1.2 80 {\n weight -1\n }\n}\n",
            "it:3: `weight -1`: expected a weight",
        ),
        ("local_address_group l {\n 10.0.0.1\n}\n", "it:2: `10.0.0.1` needs an interface"),
        (
            "vrrp_instance v {\n state MASTER\n}\n",
            "it:1: `vrrp_instance v`: expected `interface NAME`",
        ),
        (
            "vrrp_instance v {\n interface a\n virtual_ipaddress {\n x\n }\n}\n",
            "it:4: `x`: expected an address",
        ),
        ("a {\n", "it:1: the block `a` is not closed"),
    ] {
        let read = text(broken);
        let error = import::keepalived("it", None, &read, &Knowledge::default()).unwrap_err();
        assert!(error.to_string().starts_with(told), "{broken}\n{error}");
    }
    for (broken, told) in [
        (
            "netif_defs {\n device dpdk0 {\n rx {\n queue_number x\n }\n }\n}\n",
            "it:4: `queue_number x`: expected a number",
        ),
        ("netif_defs 1\n", "it:1: `netif_defs`: expected a block"),
        ("worker_defs {\n worker cpu1 {\n type slave\n }\n}\n", "it:2: a worker needs `cpu_id`"),
        ("global_defs {\n log_level LOUD\n}\n", "it:2: `log_level LOUD`: expected EMERG"),
        ("netif_defs {\n bonding b {\n mode 9\n }\n}\n", "it:3: `mode 9`: expected 0 to 6"),
    ] {
        let read = text(broken);
        let error = import::dpvs("it", &read, &Knowledge::default()).unwrap_err();
        assert!(error.to_string().starts_with(told), "{broken}\n{error}");
    }
}

/// Each check that there is, with its keys.
const CHECKED: &str = "
local_address_group l { 198.18.0.10 lan0 }
virtual_server 203.0.113.10 80 {
    delay_loop 10
    retry 2
    delay_before_retry 0.5
    connect_timeout 4
    inhibit_on_failure
    virtualhost shop.example
    quorum 2
    hysteresis 1
    sorry_server 198.18.0.9
    lb_algo rr
    lb_kind FNAT
    protocol TCP
    laddr_group_name l
    real_server 198.18.0.1 80 {
        HTTP_GET {
            url { path /a
                  status_code 200-299 404 }
            url { path /b
                  digest d36f8f9425c4a8000ad9c4a97185aca5
                  virtualhost other.example
                  regex \"^a b\"
                  regex_options caseless multiline
                  regex_no_match }
            connect_port 8080
            bindto 198.18.0.5
        }
        SSL_GET {
            url { path / }
            enable_sni
        }
    }
    real_server 198.18.0.2 80 {
        inhibit_on_failure off
        TCP_CHECK { connect_ip 198.18.1.2
                    warmup 3 }
        UDP_CHECK { payload Ab12f 3
                    require_reply 00 xx }
        UDP_CHECK { require_reply }
        PING_CHECK { retry 0 }
        DNS_CHECK { type a
                    name www.example. }
        MISC_CHECK { misc_path \"/usr/bin/check 'a b' 7\"
                     misc_timeout 2
                     user me }
        alpha
    }
}
";

#[test]
fn checks_of_keepalived_become_ours() {
    let imported = import::keepalived("it", None, &text(CHECKED), &Knowledge::default()).unwrap();
    assert_eq!(warnings(&imported), [] as [&str; 0]);
    let yaml = imported.yaml;
    let times = "interval: 10s, timeout: 4s, fall: 1, retries: 2, retry_delay: 500ms";
    let down = "initial: down, on_failure: remove";
    for line in [
        &format!(
            "health: [ {{ type: http, {times}, on_failure: inhibit, port: 8080, path: /a, status: [ \"200-299\", \
             \"404\" ], host: shop.example }}, {{ type: http, {times}, on_failure: inhibit, port: 8080, path: /b, \
             digest: \"d36f8f9425c4a8000ad9c4a97185aca5\", host: other.example, body_not: \"(?im)^a b\" }}, \
             {{ type: https, {times}, on_failure: inhibit, path: /, host: shop.example }} ]"
        ),
        &format!("{{ type: tcp, {times}, {down}, address: \"198.18.1.2\" }}"),
        &format!("{{ type: udp, {times}, {down}, send: \"Ab120f03\", reply: \"00xx\" }}"),
        &format!("{{ type: udp, {times}, {down}, reply: any }}"),
        &format!("{{ type: icmp, interval: 10s, timeout: 4s, fall: 1, {down} }}"),
        &format!("{{ type: dns, {times}, {down}, record: A, name: www.example. }}"),
        &format!(
            "{{ type: script, interval: 10s, timeout: 2s, fall: 1, retries: 2, retry_delay: 500ms, {down}, command: \
             [ /usr/bin/check, \"a b\", \"7\" ], user: me }}"
        ),
        "check_source: \"198.18.0.5\"",
        "quorum: { weight: 2, hysteresis: 1 }",
        "sorry_server: \"198.18.0.9:80\"",
    ] {
        assert!(yaml.contains(line), "{line}\n{yaml}");
    }
    is_valid(&format!("{yaml}interfaces: {{ lan0: {{ device: net_null0 }} }}\n"));
    // What keepalived has by default is written down.
    let plain = "local_address_group l { 198.18.0.10 lan0 }\nvirtual_server 203.0.113.10 80 {\nladdr_group_name l\n\
                 real_server 198.18.0.1 80 { HTTP_GET { url { path / } } }\n}\n";
    let yaml = import::keepalived("it", None, &text(plain), &Knowledge::default()).unwrap().yaml;
    let line = "health: { type: http, interval: 1m, timeout: 5s, fall: 1, retries: 1, retry_delay: 3s, on_failure: \
                remove, path: / }";
    assert!(yaml.contains(line), "{yaml}");
}

#[test]
fn checks_that_cannot_be_are_told_with_their_line() {
    for (check, told) in [
        ("HTTP_GET { connect_port 80 }", "`HTTP_GET` needs `url { path … }`"),
        (
            "HTTP_GET { url { path /\nregex (?=a) } }",
            "`regex (?=a)`: expected a regular expression",
        ),
        ("MISC_CHECK { misc_timeout 3 }", "`MISC_CHECK` needs `misc_path PROGRAM`"),
        (
            "MISC_CHECK { misc_path check }",
            "`misc_path check`: expected the full path of a program",
        ),
        ("DNS_CHECK { type PTR }", "`type PTR`: expected A, AAAA"),
        ("UDP_CHECK { payload zz }", "`payload zz`: expected hexadecimal digits"),
        ("TCP_CHECK { connect_port eighty }", "`connect_port eighty`: expected a port"),
        ("TCP_CHECK { connect_timeout -1 }", "expected a number of seconds"),
    ] {
        let conf = format!(
            "virtual_server 203.0.113.10 80 {{\nreal_server 198.18.0.1 80 {{\n{check}\n}}\n}}\n"
        );
        let conf: &'static str = conf.leak();
        let error = import::keepalived("it", None, &text(conf), &Knowledge::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(told) && (error.starts_with("it:3: ") || error.starts_with("it:4: ")),
            "{error}"
        );
    }
    let quorum =
        "virtual_server 203.0.113.10 80 {\nquorum 3\nreal_server 198.18.0.1 80 {\nweight 2\n}\n}\n";
    let error = import::keepalived("it", None, &text(quorum), &Knowledge::default()).unwrap_err();
    assert_eq!(error.to_string(), "it:2: `quorum 3`: expected no more than all servers weigh, 2");
    let lossy = "virtual_server 203.0.113.10 80 {\nreal_server 198.18.0.1 80 {\nSMTP_CHECK { }\nBFD_CHECK { name x }\n\
                 notify_up /x\n}\n}\n";
    let imported = import::keepalived("it", None, &text(lossy), &Knowledge::default()).unwrap();
    assert_eq!(
        warnings(&imported),
        [
            "it:3: warning: SMTP_CHECK: it connects, and nothing is said",
            "it:4: warning: BFD_CHECK: it has no counterpart",
            "it:5: warning: notify_up: nothing is called",
        ]
    );
}
