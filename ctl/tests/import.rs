//! `dpctl import`: what it writes and says, and that nothing is written of a file that is broken.

use std::fs;

use crate::daemon::dpctl_at;

const KEEPALIVED: &str = "\
global_defs {
    router_id LVS
}
include lips-*.conf
vrrp_instance VI_1 {
    interface bond2.kni
    dpdk_interface bond2
    virtual_ipaddress {
        10.0.96.201
    }
}
virtual_server 10.0.96.201 80 {
    lb_algo wrr
    lb_kind FNAT
    laddr_group_name l
    omega
    real_server 192.168.229.1 80 {
        weight 7
    }
}
";

#[test]
fn files_are_written_and_remarks_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("keepalived.conf"), KEEPALIVED).unwrap();
    fs::write(path("lips-1.conf"), "local_address_group l {\n 192.168.229.201 bond1\n}\n").unwrap();
    let line = format!(
        "import keepalived {} --keepalived {} -o {}",
        path("keepalived.conf"),
        path("vrrp.conf"),
        path("dpnat.yaml"),
    );
    // No daemon is asked.
    let finished = dpctl_at("/nowhere", &line, None);
    assert_eq!((finished.code, finished.out.as_str()), (0, ""), "{}", finished.err);
    assert!(finished.err.contains("1 setting not needed; -s lists them"), "{}", finished.err);
    let yaml = fs::read_to_string(path("dpnat.yaml")).unwrap();
    assert!(yaml.contains("l: { addresses: [ \"192.168.229.201\" ], dev: bond1 }"), "{yaml}");
    let vrrp = fs::read_to_string(path("vrrp.conf")).unwrap();
    assert!(vrrp.contains("interface bond2.kni") && !vrrp.contains("virtual_server"), "{vrrp}");
    let listed = dpctl_at("/nowhere", &format!("-s {line}"), None).err;
    assert!(listed.contains("keepalived.conf:16: not needed: omega: "), "{listed}");
}

#[test]
fn nothing_is_written_of_a_broken_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("keepalived.conf"), KEEPALIVED.replace("wrr", "best")).unwrap();
    fs::write(path("lips-1.conf"), "local_address_group l {\n 192.168.229.201 bond1\n}\n").unwrap();
    let line = format!(
        "import keepalived {} --keepalived {} -o {}",
        path("keepalived.conf"),
        path("vrrp.conf"),
        path("dpnat.yaml"),
    );
    let finished = dpctl_at("/nowhere", &line, None);
    assert_eq!(finished.code, 1);
    let told =
        format!("error: {}:13: `lb_algo best`: expected one of rr,", path("keepalived.conf"));
    assert!(finished.err.starts_with(&told), "{}", finished.err);
    assert!(!fs::exists(path("dpnat.yaml")).unwrap() && !fs::exists(path("vrrp.conf")).unwrap());
    for (line, says) in [
        ("import dpvs /nowhere/dpvs.conf", "/nowhere/dpvs.conf: No such file"),
        ("import dpvs x --device dpdk0", "`--device dpdk0`: expected NAME=DEVICE"),
        ("import keepalived x --accept-loss all", "[possible values: acl, synproxy]"),
        ("import nginx x", "`nginx` is no verb; there are dpvs, keepalived"),
    ] {
        let finished = dpctl_at("/nowhere", line, None);
        assert!(matches!(finished.code, 1 | 2), "{line}");
        assert!(finished.err.contains(says), "{line}: {}", finished.err);
    }
}
