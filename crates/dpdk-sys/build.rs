//! Finds DPDK by pkg-config, compiles the shim and generates the bindings.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

/// The oldest DPDK that the crates are written for.
const OLDEST: &str = "22.11";

/// Versions that differ in something a source may have to know, as `cfg(dpdk_ge_YY_MM)`.
const KNOWN: [(u32, u32); 3] = [(23, 11), (24, 11), (25, 11)];

fn main() {
    println!("cargo:rerun-if-changed=csrc/shim.c");
    println!("cargo:rerun-if-changed=csrc/shim.h");
    let version = probe();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    for (year, month) in KNOWN {
        println!("cargo:rustc-check-cfg=cfg(dpdk_ge_{year}_{month:02})");
        if version >= (year, month) {
            println!("cargo:rustc-cfg=dpdk_ge_{year}_{month:02}");
        }
    }
    let flags = cflags();
    compile_shim(&flags);
    generate(&flags);
}

/// Emits the link flags (DPDK's shared libraries; drivers are loaded by EAL from their directory)
/// and gives DPDK's version.
fn probe() -> String {
    match pkg_config::Config::new().atleast_version(OLDEST).probe("libdpdk") {
        Ok(library) => library.version,
        Err(e) => fail(&format!(
            "DPDK {OLDEST} or later was not found by pkg-config.\n\
             Install it with `apt-get install libdpdk-dev pkg-config` (Debian, Ubuntu) or \
             `dnf install dpdk-devel pkgconf` (Fedora),\n\
             or set PKG_CONFIG_PATH to the directory of libdpdk.pc.\n{e}"
        )),
    }
}

/// The compiler flags as pkg-config gives them, `-include` and `-march` included, which the
/// pkg-config crate does not hand on.
fn cflags() -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    match Command::new(tool).args(["--cflags", "libdpdk"]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(|flag| match flag.strip_prefix("-I") {
                // DPDK's headers warn under flags that are ours, so they are system headers.
                Some(path) => format!("-isystem{path}"),
                None => flag.to_owned(),
            })
            .collect(),
        Ok(output) => fail(&String::from_utf8_lossy(&output.stderr)),
        Err(e) => fail(&format!("pkg-config could not be run: {e}")),
    }
}

fn compile_shim(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file("csrc/shim.c").opt_level(3).flag("-std=gnu11").flag("-Werror=implicit");
    for flag in flags {
        build.flag(flag);
    }
    build.compile("dpnat_shim");
}

fn generate(flags: &[String]) {
    let bindings = bindgen::Builder::default()
        .header("csrc/shim.h")
        .clang_arg("-std=gnu11")
        .clang_args(flags)
        .allowlist_function("dpnat_.*")
        .allowlist_function("rte_eal_(init|cleanup|remote_launch|wait_lcore|get_lcore_state)")
        .allowlist_function("rte_(strerror|thread_register|thread_unregister|version)")
        .allowlist_function("rte_dev_(probe|remove)")
        .allowlist_function("rte_pktmbuf_free_bulk")
        .allowlist_function("rte_mempool_(free|avail_count)")
        .allowlist_function("rte_eth_dev_(get_port_by_name|get_name_by_port|info_get|configure)")
        .allowlist_function("rte_eth_dev_(adjust_nb_rx_tx_desc|start|stop|close|socket_id)")
        .allowlist_function("rte_eth_dev_(set_mtu|get_mtu)")
        .allowlist_function("rte_eth_(rx|tx)_queue_setup")
        .allowlist_function("rte_eth_promiscuous_(enable|disable|get)")
        .allowlist_function("rte_eth_allmulticast_(enable|disable)")
        .allowlist_function("rte_eth_(macaddr_get|stats_get|stats_reset)")
        .allowlist_function("rte_eth_xstats_(get|get_names|reset)")
        .allowlist_var("DPNAT_.*")
        .allowlist_var("RTE_ETH_NAME_MAX_LEN")
        .allowlist_var("RTE_ETHER_(HDR_LEN|CRC_LEN)")
        // Packed and aligned at once, which Rust cannot express; nobody reads their fields.
        .opaque_type("rte_arp.*")
        .opaque_type("rte_ether_.*")
        .opaque_type("rte_l2tpv2.*")
        .opaque_type("rte_gtp_psc.*")
        // Read through the offsets in shim.h, or by nobody.
        .opaque_type("rte_mbuf")
        .opaque_type("rte_mempool")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .generate_comments(false)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate();
    let bindings = match bindings {
        Ok(bindings) => bindings,
        Err(e) => fail(&format!(
            "the bindings to DPDK could not be generated (bindgen needs libclang: \
             `apt-get install libclang-dev`).\n{e}"
        )),
    };
    let Some(out) = env::var_os("OUT_DIR") else { fail("OUT_DIR is not set") };
    if let Err(e) = bindings.write_to_file(PathBuf::from(out).join("bindings.rs")) {
        fail(&format!("the bindings could not be written: {e}"));
    }
}

/// Ends the build with a message that stands alone, without a backtrace around it.
fn fail(message: &str) -> ! {
    eprintln!("\ndpdk-sys: {message}\n");
    exit(1);
}
