/* SPDX-License-Identifier: Apache-2.0
 *
 * The same for UDP: datagrams tell their client in an option, and a socket has many peers. So what is learned is
 * kept by socket and LIP, both ways: who a datagram is from, and by which LIP an answer goes to a client.
 *
 * IPv4 addresses stand here as ::ffff:a.b.c.d. A datagram of IPv4 has the option in its IPv4 header, one of IPv6 in
 * a header of destination options. Client and LIP have to be of one family where answers are sent: the kernel takes
 * no other from sendmsg4 and sendmsg6. So an IPv4 client that comes by IPv6 is shown as 64:ff9b:1::a.b.c.d (RFC 8215),
 * which is IPv6 to the program; for an IPv6 client that comes by IPv4 there is no such name. */

/* In IPv4. */
#define OPTION_DATAGRAM 31
/* With the option; behind it there may be others, of the client's. */
#define MARKED_IHL 7
/* In IPv6: for experiments, to be skipped by who does not know it (RFC 4727, 3). */
#define OPTION_DATAGRAM6 0x1e
#define OPTION_DATAGRAM6_LEN 18
#define DESTINATION_OPTIONS 60
/* Length of that header in units of eight bytes, less one. */
#define MARKED_UNITS 2
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
/* After so long without a mark, a LIP's port may have become another client's. */
#define KNOWN_NS (120ULL * 1000 * 1000 * 1000)

/* The other end of a socket's talk; network order. */
struct peer {
	__u64 socket;
	__u32 address[4];
	__u16 port;
	__u16 unused[3];
};

struct known {
	__u64 marked_ns;
	__u32 address[4];
	__u16 port;
	__u16 unused[3];
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

/* The beginning of a datagram of IPv4. Balancers put the option right behind the fixed header; a client's own is
 * never the first there. Without options it is UDP's header that stands there. */
struct head4 {
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

_Static_assert(sizeof(struct head4) == 28, "20 bytes of IPv4, and 8");

struct head6 {
	__u32 version_class_label;
	__u16 len;
	__u8 next;
	__u8 hop_limit;
	__u32 source[4];
	__u32 destination[4];
};

_Static_assert(sizeof(struct head6) == 40, "the fixed header");

/* Balancers put it right behind the fixed header; a client's own is never there. */
struct options6 {
	__u8 next;
	__u8 units;
	__u8 option;
	__u8 len;
	__u16 port;
	/* Not at a multiple of four. */
	__u8 address[16];
	__u8 padding[2];
};

_Static_assert(sizeof(struct options6) == 24, "three units of eight bytes");

static __always_inline int is_mapped(const __u32 *address)
{
	return !address[0] && !address[1] && address[2] == bpf_htonl(0xffff);
}

static __always_inline void map(__u32 *address, __u32 ipv4)
{
	address[0] = 0;
	address[1] = 0;
	address[2] = bpf_htonl(0xffff);
	address[3] = ipv4;
}

/* From here on a client's answers go to this LIP's port. */
static __always_inline int lead_back(const struct peer *client, const struct peer *lip, __u64 now)
{
	struct known route = { .marked_ns = now, .port = lip->port };
	struct known *earlier = bpf_map_lookup_elem(&routes, client);

	__builtin_memcpy(route.address, lip->address, sizeof(route.address));
	if (earlier && earlier->port == route.port && earlier->address[0] == route.address[0] &&
	    earlier->address[1] == route.address[1] && earlier->address[2] == route.address[2] &&
	    earlier->address[3] == route.address[3])
		return 0;
	if (earlier)
		count(MOVED_UDP);
	return bpf_map_update_elem(&routes, client, &route, BPF_ANY);
}

/* A datagram of a LIP's tells its client. */
static __always_inline void learn_sender(const struct peer *lip, const struct peer *client, __u64 now)
{
	struct known sender = { .marked_ns = now, .port = client->port };

	__builtin_memcpy(sender.address, client->address, sizeof(sender.address));
	if (lead_back(client, lip, now) || bpf_map_update_elem(&senders, lip, &sender, BPF_ANY))
		count(NO_MEMORY);
	else
		count(LEARNED_UDP);
}

/* A datagram of a LIP's tells nothing: it is too long for that, or of a service that does not mark. */
static __always_inline void remember_sender(const struct peer *lip, __u64 now)
{
	struct peer client = { .socket = lip->socket };
	struct known *known = bpf_map_lookup_elem(&senders, lip);

	if (!known)
		return;
	if (now - known->marked_ns > KNOWN_NS) {
		bpf_map_delete_elem(&senders, lip);
		return;
	}
	__builtin_memcpy(client.address, known->address, sizeof(client.address));
	client.port = known->port;
	if (lead_back(&client, lip, now))
		count(NO_MEMORY);
}

/* Who a marked datagram of IPv4 is from; false if it tells nobody. */
static __always_inline int read_mark4(const struct head4 *head, struct peer *client)
{
	__u32 address;

	if ((head->version_ihl & 15) < MARKED_IHL || head->option[0] != OPTION_DATAGRAM ||
	    head->option[1] != CLIENT4_LEN)
		return 0;
	__builtin_memcpy(&client->port, &head->option[2], 2);
	__builtin_memcpy(&address, &head->option[4], 4);
	map(client->address, address);
	return 1;
}

/* The same of IPv6. */
static __always_inline int read_mark6(const struct options6 *options, struct peer *client)
{
	if (options->units != MARKED_UNITS || options->option != OPTION_DATAGRAM6 ||
	    options->len != OPTION_DATAGRAM6_LEN)
		return 0;
	client->port = options->port;
	__builtin_memcpy(client->address, options->address, sizeof(client->address));
	if (is_mapped(client->address)) {
		client->address[0] = bpf_htonl(0x0064ff9b);
		client->address[1] = bpf_htonl(0x00010000);
		client->address[2] = 0;
	}
	return 1;
}

/* Reads a datagram: who sent it, who that stands for if it says so. False for all else. */
static __always_inline int read_datagram(struct __sk_buff *skb, struct peer *lip, struct peer *client,
					 int *marked)
{
	struct options6 options = {};
	struct head6 head6 = {};
	struct head4 head4 = {};
	__u32 udp;

	if (skb->protocol == bpf_htons(ETHERTYPE_IPV4)) {
		/* 28 bytes have IPv4 and UDP in any case; what is shorter is not for us. */
		if (bpf_skb_load_bytes(skb, 0, &head4, sizeof(head4)) || head4.protocol != IPPROTO_UDP)
			return 0;
		map(lip->address, head4.source);
		*marked = read_mark4(&head4, client);
		udp = (head4.version_ihl & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETHERTYPE_IPV6)) {
		if (bpf_skb_load_bytes(skb, 0, &head6, sizeof(head6)))
			return 0;
		__builtin_memcpy(lip->address, head6.source, sizeof(lip->address));
		udp = sizeof(head6);
		if (head6.next == DESTINATION_OPTIONS) {
			if (bpf_skb_load_bytes(skb, sizeof(head6), &options, sizeof(options)) ||
			    options.next != IPPROTO_UDP)
				return 0;
			*marked = read_mark6(&options, client);
			udp += (options.units + 1) * 8;
		} else if (head6.next != IPPROTO_UDP) {
			return 0;
		}
	} else {
		return 0;
	}
	return bpf_skb_load_bytes(skb, udp, &lip->port, sizeof(lip->port)) == 0;
}

/* A datagram comes to a socket. It is never refused here. */
SEC("cgroup_skb/ingress")
int datagram(struct __sk_buff *skb)
{
	struct prefix from = { .len = 128 };
	struct peer lip = {}, client = {};
	int marked = 0;
	__u64 now;

	if (!read_datagram(skb, &lip, &client, &marked))
		return 1;
	lip.socket = client.socket = bpf_get_socket_cookie(skb);
	__builtin_memcpy(from.address, lip.address, sizeof(from.address));
	now = bpf_ktime_get_ns();
	if (!believed(&from)) {
		/* A client that came by a balancer before now comes by itself: so do its answers. And who was a balancer speaks
		 * for nobody else any more. */
		bpf_map_delete_elem(&routes, &lip);
		bpf_map_delete_elem(&senders, &lip);
	} else if (marked)
		learn_sender(&lip, &client, now);
	else
		remember_sender(&lip, now);
	return 1;
}

/* The program asks who a datagram is from. */
SEC("cgroup/recvmsg4")
int from4(struct bpf_sock_addr *ctx)
{
	struct peer lip = { .socket = bpf_get_socket_cookie(ctx) };
	struct known *client;

	map(lip.address, ctx->user_ip4);
	lip.port = ctx->user_port;
	client = bpf_map_lookup_elem(&senders, &lip);
	if (!client)
		return 1;
	ctx->user_ip4 = client->address[3];
	ctx->user_port = client->port;
	count(ANSWERED_UDP);
	return 1;
}

/* The same of an IPv6 socket, which may be of both families: its IPv4 peers are ::ffff:a.b.c.d. */
SEC("cgroup/recvmsg6")
int from6(struct bpf_sock_addr *ctx)
{
	struct peer lip = { .socket = bpf_get_socket_cookie(ctx) };
	struct known *client;

	lip.address[0] = ctx->user_ip6[0];
	lip.address[1] = ctx->user_ip6[1];
	lip.address[2] = ctx->user_ip6[2];
	lip.address[3] = ctx->user_ip6[3];
	lip.port = ctx->user_port;
	client = bpf_map_lookup_elem(&senders, &lip);
	if (!client)
		return 1;
	ctx->user_ip6[0] = client->address[0];
	ctx->user_ip6[1] = client->address[1];
	ctx->user_ip6[2] = client->address[2];
	ctx->user_ip6[3] = client->address[3];
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

	map(client.address, ctx->user_ip4);
	client.port = ctx->user_port;
	lip = bpf_map_lookup_elem(&routes, &client);
	if (!lip)
		return 1;
	ctx->user_ip4 = lip->address[3];
	ctx->user_port = lip->port;
	count(REPLIED_UDP);
	return 1;
}

SEC("cgroup/sendmsg6")
int answer6(struct bpf_sock_addr *ctx)
{
	struct peer client = { .socket = bpf_get_socket_cookie(ctx) };
	struct known *lip;

	client.address[0] = ctx->user_ip6[0];
	client.address[1] = ctx->user_ip6[1];
	client.address[2] = ctx->user_ip6[2];
	client.address[3] = ctx->user_ip6[3];
	client.port = ctx->user_port;
	lip = bpf_map_lookup_elem(&routes, &client);
	if (!lip)
		return 1;
	ctx->user_ip6[0] = lip->address[0];
	ctx->user_ip6[1] = lip->address[1];
	ctx->user_ip6[2] = lip->address[2];
	ctx->user_ip6[3] = lip->address[3];
	ctx->user_port = lip->port;
	count(REPLIED_UDP);
	return 1;
}
