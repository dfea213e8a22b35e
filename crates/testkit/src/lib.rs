//! Packet builder, pcap writer, fake interface and fake clock for tests.
#![forbid(unsafe_code)]
