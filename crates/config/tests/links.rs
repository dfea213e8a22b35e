//! VLANs: what they may be, and what may be on them.

use config::{Effect, Model, Vlan, diff, load};

const FILE: &str = r#"
interfaces:
  lan0: { device: net_null0 }
  wan0: { device: net_null1, kni: wan0.kni }
vlans:
  lan0.7: { link: lan0, id: 7 }
  edge: { link: wan0, id: 7, kni: { name: edge.kni, netns: edge } }
addresses:
  - { address: 198.18.0.1/24, dev: lan0.7 }
  - { address: 203.0.113.2/24, dev: edge, active: with-kernel }
routes:
  - { to: default, via: 203.0.113.1, dev: edge }
neighbours:
  - { address: 198.18.0.2, mac: "02:00:00:00:00:02", dev: lan0.7 }
local_address_pools:
  lan: { addresses: [ 198.18.0.10 ], dev: lan0.7 }
snat:
  office: { match: { in_dev: lan0.7, out_dev: edge }, wan_addresses: [ interface ] }
"#;

fn model(text: &str) -> Model {
    load(text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}")).0
}

/// What is said of the file with something else in the place of something.
#[track_caller]
fn refused(old: &str, new: &str) -> String {
    assert!(FILE.contains(old), "{old}");
    load(&FILE.replace(old, new), "test.yaml").unwrap_err().to_string()
}

#[test]
fn whatever_an_interface_has_a_vlan_may_have() {
    let model = model(FILE);
    assert_eq!(model.vlans["lan0.7"].id, 7);
    assert!(model.has_dev("edge") && model.has_dev("lan0") && !model.has_dev("lan0.8"));
    assert_eq!(model.knis().count(), 2);
    assert_eq!(model.wan_ranges(&model.snat["office"]).len(), 1);
}

#[test]
fn slips_are_refused_by_name() {
    for (old, new, why) in [
        ("id: 7 }", "id: 0 }", "0 is not from 1 to 4094"),
        ("id: 7 }", "id: 4095 }", "4095 is not from 1 to 4094"),
        ("link: lan0, id", "link: lan9, id", "there is no interface `lan9`"),
        ("link: lan0, id", "link: edge, id", "`edge` is a VLAN"),
        ("link: lan0, id", "link: wan0, id", "is the VLAN 7 of `wan0` already"),
        ("  edge: {", "  lan0: {", "there is an interface `lan0` already"),
        ("  edge: {", "  more-than-15-bytes: {", "longer than 15 bytes"),
        ("name: edge.kni", "name: a/b", "cannot be the name of a kernel interface"),
        ("kni: wan0.kni }", "kni: { name: edge.kni, netns: edge } }", "is the KNI of interface"),
        ("dev: lan0.7 }\nsnat", "dev: lan0.8 }\nsnat", "there is no interface `lan0.8`"),
        ("in_dev: lan0.7", "in_dev: lan0.8", "there is no interface `lan0.8`"),
        (", kni: { name: edge.kni, netns: edge }", "", "set `vlans.edge.kni: edge.kni`"),
    ] {
        let errors = refused(old, new);
        assert!(errors.contains(why), "{new}: {errors}");
    }
}

#[test]
fn vlans_come_and_go_one_by_one() {
    let mut model = model(FILE);
    let vlan = |link: &str, id| Vlan { link: link.to_owned(), id, kni: None };
    model.add_vlan("lan0.8", vlan("lan0", 8)).unwrap();
    for (name, vlan) in [
        ("lan0.8", vlan("lan0", 9)),
        ("again", vlan("lan0", 8)),
        ("lan0", vlan("wan0", 9)),
        ("x", vlan("lan0.8", 9)),
        ("x", vlan("lan0", 0)),
    ] {
        let before = model.clone();
        model.add_vlan(name, vlan).unwrap_err();
        assert_eq!(model, before);
    }
    model.delete_vlan("lan0.8").unwrap();
    let errors = model.delete_vlan("lan0.7").unwrap_err();
    assert!(errors[0].to_string().contains("needed by addresses[0].dev"), "{}", errors[0]);
    assert!(model.delete_vlan("lan0.8").is_err());
}

#[test]
fn only_their_knis_wait_for_a_restart() {
    let before = model(FILE);
    let effect = |text: &str| {
        let changes = diff(&before, &model(text));
        changes.into_iter().map(|change| change.effect).collect::<Vec<_>>()
    };
    let with = |line: &str| FILE.replace("vlans:\n", &format!("vlans:\n  {line}\n"));
    assert_eq!(effect(&with("x: { link: lan0, id: 8 }")), [Effect::Live]);
    assert_eq!(effect(&with("x: { link: lan0, id: 8, kni: x.kni }")), [Effect::Restart]);
    assert_eq!(effect(&FILE.replace("id: 7 }", "id: 9 }")), [Effect::Live]);
    assert_eq!(effect(&FILE.replace("edge.kni", "k")), [Effect::Restart]);
}
