// Puts the tag of a VLAN into frames that leave by an interface of the kernel, and takes it out of those that come
// in; what comes in without it is dropped. TCI is the tag: priority and identifier.

struct __sk_buff {
	unsigned int len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci;
};

enum { PASS = 0, DROP = 2, VLAN_ID = 0xfff, ETH_P_8021Q = 0x8100 };

static long (*skb_vlan_push)(struct __sk_buff *, unsigned short, unsigned short) = (void *)18;
static long (*skb_vlan_pop)(struct __sk_buff *) = (void *)19;

__attribute__((section("put"), used)) int put_tag(struct __sk_buff *frame)
{
	return skb_vlan_push(frame, __builtin_bswap16(ETH_P_8021Q), TCI) ? DROP : PASS;
}

__attribute__((section("take"), used)) int take_tag(struct __sk_buff *frame)
{
	if (!frame->vlan_present || (frame->vlan_tci & VLAN_ID) != (TCI & VLAN_ID))
		return DROP;
	return skb_vlan_pop(frame) ? DROP : PASS;
}
