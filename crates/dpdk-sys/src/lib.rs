//! Bindings to DPDK and one shim of burst-level helpers.
