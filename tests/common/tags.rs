//! VLANs of the kernel's own making, for kernels without `8021q` interfaces.

use std::path::Path;
use std::process::Command;

use super::lab::Lab;
use super::namespace::Namespace;
use super::process::run;

/// Puts all that a namespace sends and receives by an interface on a VLAN: the tag is put in as a frame leaves and
/// taken out as one comes in. What is captured there has it.
#[track_caller]
pub fn tag(lab: &Lab, namespace: &Namespace, interface: &str, tci: u16) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/tag.bpf.c");
    let object = lab.path(&format!("tag-{tci}.o"));
    let mut clang = Command::new(std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned()));
    clang.args(["-O2", "-target", "bpf", "-c", &format!("-DTCI={tci}"), "-o"]).arg(&object);
    run(clang.arg(source)).ok();
    let object = object.to_str().unwrap();
    namespace.run("tc", &["qdisc", "replace", "dev", interface, "clsact"]).ok();
    for (direction, section) in [("egress", "put"), ("ingress", "take")] {
        namespace.run("tc", &["filter", "del", "dev", interface, direction]);
        let program = ["bpf", "direct-action", "object-file", object, "section", section];
        let filter = ["filter", "add", "dev", interface, direction];
        namespace.run("tc", &[&filter[..], &program[..]].concat()).ok();
    }
}
