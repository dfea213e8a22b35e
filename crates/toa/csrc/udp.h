/* SPDX-License-Identifier: Apache-2.0
 *
 * The same for UDP: datagrams tell their client in IP option 31, and a socket has many peers. So what is learned
 * is kept by socket and LIP, both ways: who a datagram is from, and by which LIP an answer goes to a client.
 *
 * IPv4 only; of a socket for both families, its IPv4 part. */

#define OPTION_DATAGRAM 31
/* With the option; behind it there may be others, of the client's. */
#define MARKED_IHL 7
/* After so long without a mark, a LIP's port may have become another client's. */
#define KNOWN_NS (120ULL * 1000 * 1000 * 1000)

/* The other end of a socket's talk; network order. */
struct peer {
	__u64 socket;
	__u32 address;
	__u16 port;
	__u16 unused;
};

struct known {
	__u64 marked_ns;
	__u32 address;
	__u16 port;
	__u16 unused;
};

/* From a LIP's port to the client that it stands for. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct peer);
	__type(value, struct known);
} senders SEC(".maps");

/* From a client to the LIP's port by which it came. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct peer);
	__type(value, struct known);
} routes SEC(".maps");

/* The beginning of a datagram. Balancers put the option right behind the fixed header; a client's own is never the
 * first there. Without options it is UDP's header that stands there. */
struct head {
	__u8 version_ihl;
	__u8 tos;
	__u16 len;
	__u16 ident;
	__u16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 sum;
	__u32 source;
	__u32 destination;
	__u8 option[8];
};

_Static_assert(sizeof(struct head) == 28, "20 bytes of IPv4, and 8");

/* From here on a client's answers go to this LIP's port. */
static __always_inline int lead_back(const struct peer *client, const struct peer *lip, __u64 now)
{
	struct known route = { .marked_ns = now, .address = lip->address, .port = lip->port };
	struct known *earlier = bpf_map_lookup_elem(&routes, client);

	if (earlier && earlier->address == route.address && earlier->port == route.port)
		return 0;
	if (earlier)
		count(MOVED_UDP);
	return bpf_map_update_elem(&routes, client, &route, BPF_ANY);
}

static __always_inline void learn_sender(const struct peer *lip, const struct head *head, __u64 now)
{
	struct peer client = { .socket = lip->socket };
	struct known sender = { .marked_ns = now };

	__builtin_memcpy(&client.port, &head->option[2], 2);
	__builtin_memcpy(&client.address, &head->option[4], 4);
	sender.address = client.address;
	sender.port = client.port;
	if (lead_back(&client, lip, now) || bpf_map_update_elem(&senders, lip, &sender, BPF_ANY))
		count(NO_MEMORY);
	else
		count(LEARNED_UDP);
}

/* A datagram comes to a socket. It is never refused here. */
SEC("cgroup_skb/ingress")
int datagram(struct __sk_buff *skb)
{
	struct prefix from = { .len = 128 };
	struct head head = {};
	struct peer peer = {}, client = {};
	struct known *known;
	__u64 now;

	/* 28 bytes have IPv4 and UDP in any case; what is shorter is not for us. */
	if (skb->protocol != bpf_htons(0x0800) || bpf_skb_load_bytes(skb, 0, &head, sizeof(head)) ||
	    head.protocol != IPPROTO_UDP ||
	    bpf_skb_load_bytes(skb, (head.version_ihl & 15) * 4, &peer.port, sizeof(peer.port)))
		return 1;
	peer.socket = bpf_get_socket_cookie(skb);
	peer.address = head.source;
	from.address[2] = bpf_htonl(0xffff);
	from.address[3] = head.source;
	now = bpf_ktime_get_ns();
	if ((head.version_ihl & 15) >= MARKED_IHL && head.option[0] == OPTION_DATAGRAM &&
	    head.option[1] == CLIENT4_LEN && believed(&from)) {
		learn_sender(&peer, &head, now);
		return 1;
	}
	if (!believed(&from)) {
		/* A client that came by a balancer before now comes by itself: so do its answers. */
		bpf_map_delete_elem(&routes, &peer);
		return 1;
	}
	/* Without a mark: too long for one, or of a service that does not mark. */
	known = bpf_map_lookup_elem(&senders, &peer);
	if (!known)
		return 1;
	if (now - known->marked_ns > KNOWN_NS) {
		bpf_map_delete_elem(&senders, &peer);
		return 1;
	}
	client.socket = peer.socket;
	client.address = known->address;
	client.port = known->port;
	if (lead_back(&client, &peer, now))
		count(NO_MEMORY);
	return 1;
}

static __always_inline struct known *sender(struct bpf_sock_addr *ctx, __u32 address)
{
	struct peer lip = { .socket = bpf_get_socket_cookie(ctx) };

	lip.address = address;
	lip.port = ctx->user_port;
	return bpf_map_lookup_elem(&senders, &lip);
}

SEC("cgroup/recvmsg4")
int from4(struct bpf_sock_addr *ctx)
{
	struct known *client = sender(ctx, ctx->user_ip4);

	if (!client)
		return 1;
	ctx->user_ip4 = client->address;
	ctx->user_port = client->port;
	count(ANSWERED_UDP);
	return 1;
}

/* A socket of both families: its IPv4 peers are ::ffff:a.b.c.d. */
SEC("cgroup/recvmsg6")
int from6(struct bpf_sock_addr *ctx)
{
	struct known *client;

	if (ctx->user_ip6[0] || ctx->user_ip6[1] || ctx->user_ip6[2] != bpf_htonl(0xffff))
		return 1;
	client = sender(ctx, ctx->user_ip6[3]);
	if (!client)
		return 1;
	ctx->user_ip6[3] = client->address;
	ctx->user_port = client->port;
	count(ANSWERED_UDP);
	return 1;
}

/* An answer: to the client as the program believes, by the LIP's port as the balancer needs it. The kernel asks
 * here for IPv4 also of a socket of both families. */
SEC("cgroup/sendmsg4")
int answer4(struct bpf_sock_addr *ctx)
{
	struct peer client = { .socket = bpf_get_socket_cookie(ctx) };
	struct known *lip;

	client.address = ctx->user_ip4;
	client.port = ctx->user_port;
	lip = bpf_map_lookup_elem(&routes, &client);
	if (!lip)
		return 1;
	ctx->user_ip4 = lip->address;
	ctx->user_port = lip->port;
	count(REPLIED_UDP);
	return 1;
}
