//! Hashes with fixed keys: the same on all nodes and after each restart, so that two nodes agree.

/// What a hash is for; each use has its own key, so that one tells nothing of another.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Use {
    /// A client's place in the table of `sh`.
    SourceHash = 0x243f_6a88_85a3_08d3,
    /// A client's place on the ring of `conhash`.
    RingClient = 0x1319_8a2e_0370_7344,
    /// A server's points on that ring.
    RingServer = 0xa409_3822_299f_31d0,
    /// A client's place in the Maglev table.
    MaglevClient = 0x082e_fa98_ec4e_6c89,
    /// Where a server's permutation of the Maglev table starts.
    MaglevOffset = 0x4528_21e6_38d0_1377,
    /// By how much it goes on.
    MaglevSkip = 0xbe54_66cf_34e9_0c6c,
    /// Which clients a server that is warming up takes.
    SlowStart = 0xc0ac_29b7_c97c_50dd,
    /// The place of a source prefix in the persistence table.
    Sticky = 0x3f84_d5b5_b547_0917,
    /// An IPv6 address in fewer bits.
    Address = 0xd131_0ba6_98df_b5ac,
    /// The place of a service in the map of services.
    ServiceMap = 0x9216_d5d9_8979_fb1b,
}

/// The finalizer of SplitMix64: a bijection in which each input bit changes half of the output.
#[inline(always)]
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 64 well-mixed bits; different values have different hashes for the same use.
#[inline]
pub(crate) const fn hash(value: u64, purpose: Use) -> u64 {
    mix(mix(value ^ purpose as u64).wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// Maps a hash to `0..len` without division, evenly for all `len` far below 2^32.
#[inline]
pub(crate) const fn reduce(hash: u64, len: usize) -> usize {
    ((hash as u128 * len as u128) >> 64) as usize
}
