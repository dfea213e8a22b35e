//! Translation between the families (RFC 7915), a file a direction.
//!
//! A translation is told where the headers stand, the tuple that the packet is to have, and what the new
//! tuple does to its transport checksum. It replaces the IP header in place, behind the Ethernet header,
//! and changes the transport's by the difference. Which tuple that is, is decided elsewhere: by the conn
//! of a VIP, by the binding of a NAT64 gateway.

pub mod four_to_six;
mod icmp;
pub mod six_to_four;

use types::{Address, Packet, Proto, Verdict};
use wire::{checksum, chunk_at, chunk_at_mut, ethernet, icmpv6};

use crate::options::Sum;
use crate::rewrite::Layout;
pub(crate) use icmp::plateau_below;

/// IPv4 header without options.
const IPV4: usize = wire::ipv4::LEN;
/// IPv6 header without extension headers.
const IPV6: usize = wire::ipv6::LEN;
/// Fragment header of IPv6.
const FRAGMENT: usize = wire::extension::FRAGMENT_LEN;
/// ICMP header before what an error quotes.
const ICMP_HEADER: usize = 8;
const ICMPV4: u8 = Proto::Icmp.number();
const TCP: u8 = Proto::Tcp.number();
const UDP: u8 = Proto::Udp.number();
/// How much longer an IPv6 header is.
const DIFFERENCE: u16 = (IPV6 - IPV4) as u16;

/// What can be chosen of a translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// TOS or traffic class of translated packets; that of the packet if `None` (RFC 7915 §4.1, §5.1).
    pub tos: Option<u8>,
    /// To IPv6: with a fragment header also if it is no fragment yet, because it is going to be cut (RFC 7915 §4).
    pub fragment_header: bool,
}

/// The MTUs of the ways out towards both families, in bytes: an ICMP error tells no more than passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtus {
    /// Of the next hop for IPv4.
    pub v4: u16,
    /// Of the next hop for IPv6.
    pub v6: u16,
}

/// What became of a translated packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where its headers stand now.
    pub layout: Layout,
    /// It came without a UDP checksum and has got one, summed over the whole datagram (RFC 7915 §4.5).
    pub summed: bool,
}

/// Where the headers of an ICMP error and of the packet that it quotes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorLayout {
    /// Of the error itself; `l4` is its ICMP header.
    pub outer: Layout,
    /// Offset of the quoted IP header.
    pub inner_l3: usize,
    /// Offset of the quoted transport header.
    pub inner_l4: usize,
}

impl<A: Address> From<&wire::Parsed<A>> for ErrorLayout {
    fn from(parsed: &wire::Parsed<A>) -> Self {
        Self {
            outer: Layout::from(parsed),
            inner_l3: parsed.inner_l3.into(),
            inner_l4: parsed.inner_l4.into(),
        }
    }
}

impl ErrorLayout {
    /// Whether all headers are in their order and as long as IP headers of so many bytes make them.
    fn is_sound(&self, ip_header: usize) -> bool {
        let Layout { l3, l4, ip_len } = self.outer;
        l3 + ip_header <= l4
            && l4 + ICMP_HEADER <= self.inner_l3
            && self.inner_l3 + ip_header <= self.inner_l4
            && self.inner_l4 <= l3 + ip_len
    }
}

/// Replaces the headers between the Ethernet header, which ends at `l3`, and `kept` by `len` bytes that
/// hold anything. False without headroom; the packet is unchanged then.
fn replace_headers<P: Packet>(packet: &mut P, l3: usize, kept: usize, len: usize) -> bool {
    let wanted = l3 + len;
    if packet.bytes().len() < kept || l3 > kept {
        return false;
    }
    if let Some(growth) = wanted.checked_sub(kept) {
        if !packet.prepend(growth) {
            return false;
        }
        packet.bytes_mut().copy_within(growth..growth + l3, 0);
    } else {
        let cut = kept - wanted;
        packet.bytes_mut().copy_within(..l3, cut);
        if !packet.trim(cut) {
            return false;
        }
    }
    true
}

/// Writes the EtherType of what begins at `l3`.
fn set_ether_type(bytes: &mut [u8], l3: usize, ether_type: u16) -> Option<()> {
    debug_assert!(matches!(ether_type, ethernet::IPV4 | ethernet::IPV6));
    *chunk_at_mut::<2>(bytes, l3.checked_sub(2)?)? = ether_type.to_be_bytes();
    Some(())
}

/// Writes ports and the checksum of a TCP or UDP header that begins `bytes`: as much of it as is there.
/// `delta` is the difference that the new tuple makes. `None` if not even the ports are there.
fn translate_ports(
    bytes: &mut [u8],
    proto: u8,
    (sport, dport): (u16, u16),
    delta: u16,
) -> Option<()> {
    let [a, b] = sport.to_be_bytes();
    let [c, d] = dport.to_be_bytes();
    *chunk_at_mut::<4>(bytes, 0)? = [a, b, c, d];
    let at = if proto == TCP { 16 } else { 6 };
    if let Some(field) = chunk_at_mut::<2>(bytes, at) {
        let old = u16::from_be_bytes(*field);
        let new = if proto == TCP {
            checksum::apply(old, delta)
        } else {
            checksum::apply_udp(old, delta)
        };
        *field = new.to_be_bytes();
    }
    Some(())
}

/// What new ports do to a checksum: `bytes` begin with the old ones.
fn ports_delta(bytes: &[u8], (sport, dport): (u16, u16)) -> Option<u16> {
    let &[a, b, c, d] = chunk_at::<4>(bytes, 0)?;
    Some(checksum::add(
        checksum::delta_u16(u16::from_be_bytes([a, b]), sport),
        checksum::delta_u16(u16::from_be_bytes([c, d]), dport),
    ))
}

/// Makes an echo of one family one of the other: the message begins `bytes`, `pseudo` is what appearing or
/// vanishing of the pseudo header does to its checksum (RFC 7915 §4.2, §5.2). `None` if it is cut off.
fn translate_echo(bytes: &mut [u8], icmp_type: u8, ident: u16, pseudo: u16) -> Option<()> {
    let head = chunk_at_mut::<8>(bytes, 0)?;
    let mut sum = Sum::of(pseudo);
    sum.add(checksum::delta_u16(
        u16::from_be_bytes([head[0], head[1]]),
        u16::from_be_bytes([icmp_type, head[1]]),
    ));
    sum.add(checksum::delta_u16(u16::from_be_bytes([head[4], head[5]]), ident));
    head[0] = icmp_type;
    [head[4], head[5]] = ident.to_be_bytes();
    let changed = checksum::apply(u16::from_be_bytes([head[2], head[3]]), sum.fold());
    [head[2], head[3]] = changed.to_be_bytes();
    Some(())
}

/// How much is quoted, and by how many zeros the quote is made longer than translation makes it: where
/// extensions follow, their place is told in units of its length (RFC 4884 §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Quote {
    /// End of the quoted packet, in bytes from the start of the frame.
    end: usize,
    /// Zeros between it and the extensions.
    padding: usize,
    /// Length in bytes that the error is to tell, padding included; 0 without extensions.
    told: usize,
}

/// The first byte at `from` of a message is moved so many bytes towards its head, and all before it; the
/// gap is filled with zeros.
fn pad_quote(bytes: &mut [u8], from: usize, quote: Quote) -> Option<()> {
    if quote.padding > 0 {
        let to = from.checked_sub(quote.padding)?;
        bytes.get(from..quote.end)?;
        bytes.copy_within(from..quote.end, to);
        bytes.get_mut(quote.end - quote.padding..quote.end)?.fill(0);
    }
    Some(())
}

/// The checksum of an error after a part of it was replaced (RFC 1624): sums of what was there and of what
/// is, pseudo headers included, the old checksum in the one and none in the other.
fn replaced_checksum(old: u16, new: u16) -> u16 {
    checksum::add(old, !new)
}

/// The sum of the ICMP message from `at` to 20 bytes into the quoted transport header at `inner_l4`, which
/// is as far as translation changes anything.
fn changed_sum(bytes: &[u8], at: usize, inner_l4: usize, end: usize) -> Option<u16> {
    bytes.get(at..end.min(inner_l4 + 20)).map(checksum::sum)
}

const fn is_echo6(icmp_type: u8) -> bool {
    matches!(icmp_type, icmpv6::ECHO_REQUEST | icmpv6::ECHO_REPLY)
}

/// RFC 7915 has nothing for it.
const UNTRANSLATABLE: Verdict = Verdict::Untranslatable;
