//! Tags of VLANs (IEEE 802.1Q): read and taken out before a frame is parsed, put in as it leaves. In between no
//! stage meets one: a frame is that of the VLAN's interface.

use counters::WorkerCounters;
use types::{EthPortId, Packet, Verdict};
use wire::ethernet;

use crate::path::burst::Meta;
use crate::snapshot::{Vlans, Wire};
use crate::worker::Core;

/// Source and destination.
const STATIONS: usize = 12;
const TAG: usize = ethernet::VLAN_LEN;
const VID: u16 = 0x0fff;

/// Whether [`take_out`] has anything to do.
#[inline(always)]
pub(super) fn is_tagged<P: Packet>(packet: &P) -> bool {
    let ether_type = wire::chunk_at(packet.bytes(), STATIONS);
    packet.tag().is_some() || ether_type.is_none_or(|bytes: &[u8; 2]| *bytes == TPID)
}

const TPID: [u8; 2] = ethernet::VLAN.to_be_bytes();

/// Takes the tag out of a frame, unless the NIC has: the frame came in by the VLAN's interface then. A tag that
/// names no VLAN but a priority only (§6.9.1) goes as well. The priority is kept with the packet.
///
/// A second tag stays in the frame, which `parse` refuses then.
#[inline(never)]
pub(super) fn take_out<P: Packet>(
    vlans: &Vlans,
    counters: &mut WorkerCounters,
    packet: &mut P,
    meta: &mut Meta,
) -> Result<(), Verdict> {
    let tci = match packet.tag() {
        Some(tci) => tci,
        None => {
            // What is shorter is nobody's, as `parse` finds.
            if !packet.pull(STATIONS + TAG) {
                return Ok(());
            }
            let Some(&[high, low, tci @ ..]) = wire::chunk_at::<4>(packet.bytes(), STATIONS) else {
                return Ok(());
            };
            if [high, low] != TPID {
                return Ok(());
            }
            if let Some(head) = packet.bytes_mut().get_mut(..STATIONS + TAG) {
                head.copy_within(..STATIONS, TAG);
            }
            packet.trim(TAG);
            let tci = u16::from_be_bytes(tci);
            packet.note_tag(tci);
            tci
        }
    };
    let vid = tci & VID;
    if vid == 0 {
        return Ok(());
    }
    // Devices are numbered as their interfaces are.
    let interface = vlans.find(meta.interface, vid).ok_or(Verdict::UnknownVlan)?;
    meta.interface = interface.0;
    counters.received(interface, 1, packet.total_len() as u64);
    Ok(())
}

/// Puts the tag of a VLAN into a frame that leaves by it, with the priority that the frame came with. False without
/// room for it.
#[inline(never)]
pub(super) fn put_in<P: Packet>(
    core: &mut Core<P>,
    interface: EthPortId,
    packet: &mut P,
    wire: Wire,
) -> bool {
    core.counters.sent(interface, 1, packet.total_len() as u64);
    let tci = packet.tag().unwrap_or(0) & !VID | wire.vid;
    if wire.nic_tags {
        packet.leave_tag_to_nic(tci);
        return true;
    }
    if !packet.prepend(TAG) {
        return false;
    }
    let [tpid_high, tpid_low] = TPID;
    let [high, low] = tci.to_be_bytes();
    let bytes = packet.bytes_mut();
    if let Some(head) = bytes.get_mut(..STATIONS + TAG) {
        head.copy_within(TAG.., 0);
        if let Some(tag) = head.last_chunk_mut() {
            *tag = [tpid_high, tpid_low, high, low];
            return true;
        }
    }
    false
}
