/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernel of a real server runs for dptoa: notes a connection's client when the handshake is
 * complete, and gives its address whenever a program asks for the peer's.
 *
 * The address is kept with the socket (socket storage): it goes when the socket goes, in any network
 * namespace, and no table has to be sized. accept() asks in the same way as getpeername(), so one pair of
 * hooks answers both. */
#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "options.h"

#ifndef AF_INET
#define AF_INET 2
#endif
/* DPVS's TOA_SO_GET_LOOKUP: an IPv6 address and a port, 20 bytes. */
#define SO_CLIENT6 4096
#define SO_CLIENT6_WORDS 5
/* A larger answer of the kernel does not come to a program whole. */
#define SOCKOPT_SEEN_MAX 4096

/* Set before the program is loaded; the verifier then leaves out what cannot run. */
const volatile __u32 multipath; /* this kernel has bpf_skc_to_mptcp_sock() */

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct client);
} clients SEC(".maps");

/* IPv4 as ::ffff:a.b.c.d. */
struct prefix {
	__u32 len;
	__u32 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct prefix);
	__type(value, __u8);
} balancers SEC(".maps");

/* The order is that of `Counter` in counters.rs. */
enum counter {
	LEARNED,
	NO_OPTION,
	UNTRUSTED,
	NO_MEMORY,
	ANSWERED,
	UNSPEAKABLE,
	ANSWERED_SOCKOPT,
	LEARNED_UDP,
	ANSWERED_UDP,
	REPLIED_UDP,
	MOVED_UDP,
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	/* Atomic, since a program that asks for a name may be interrupted here by one that learns. */
	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline int believed(const struct prefix *peer)
{
	return bpf_map_lookup_elem(&balancers, peer) != NULL;
}

static __always_inline int is_balancer(struct bpf_sock_ops *ops)
{
	struct prefix peer = { .len = 128 };

	if (ops->family == AF_INET) {
		__u32 address = ops->remote_ip4;

		/* Keeps the compiler from making one load of this and of the last word below, through a
		 * computed pointer that the verifier refuses. */
		asm volatile("" : "+r"(address));
		peer.address[2] = bpf_htonl(0xffff);
		peer.address[3] = address;
	} else {
		peer.address[0] = ops->remote_ip6[0];
		peer.address[1] = ops->remote_ip6[1];
		peer.address[2] = ops->remote_ip6[2];
		peer.address[3] = ops->remote_ip6[3];
	}
	return believed(&peer);
}

/* From the packet that completed the handshake. The kernel shows its TCP header and no byte of its data.
 *
 * bpf_load_hdr_opt() is of no use: of kind 254 it wants to be told the first bytes, and here they are the
 * client's port. */
static __always_inline int read_option(struct bpf_sock_ops *ops, struct client *client)
{
	/* On the stack, not in a per-CPU map: a socket's backlog is worked off where interrupts come in. */
	__u8 options[OPTIONS_MAX] = {};
	__u8 *at = ops->skb_data, *end = ops->skb_data_end;
	__u32 len = 0;

	if (at + 20 > end)
		return 0;
	at += 20;
#pragma unroll
	for (int word = 0; word < OPTIONS_MAX / 4; word++) {
		if (at + 4 * word + 4 > end)
			break;
		__builtin_memcpy(&options[4 * word], at + 4 * word, 4);
		len = 4 * word + 4;
	}
	return find_client(options, len, client);
}

static __always_inline int keep(struct bpf_sock_ops *ops, const struct client *client)
{
	struct bpf_sock *socket = ops->sk;
	struct client *kept;

	if (!socket)
		return 0;
	kept = bpf_sk_storage_get(&clients, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept)
		return 0;
	*kept = *client;
	if (multipath) {
		/* A program that uses MPTCP holds the connection's socket, this is one of its subflows. */
		struct mptcp_sock *connection = bpf_skc_to_mptcp_sock(socket);

		if (connection) {
			kept = bpf_sk_storage_get(&clients, connection, NULL,
						  BPF_SK_STORAGE_GET_F_CREATE);
			if (!kept)
				return 0;
			*kept = *client;
		}
	}
	return 1;
}

SEC("sockops")
int learn(struct bpf_sock_ops *ops)
{
	struct client client = {};

	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	if (!is_balancer(ops))
		count(UNTRUSTED);
	else if (!read_option(ops, &client))
		count(NO_OPTION);
	else if (!keep(ops, &client))
		count(NO_MEMORY);
	else
		count(LEARNED);
	return 1;
}

/* An IPv4 socket. The kernel wants 1 as the answer. */
SEC("cgroup/getpeername4")
int name4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *socket = ctx->sk;
	struct client *client;

	if (!socket)
		return 1;
	client = bpf_sk_storage_get(&clients, socket, NULL, 0);
	if (!client)
		return 1;
	if (client->family != 4) {
		count(UNSPEAKABLE);
		return 1;
	}
	ctx->user_ip4 = client->address[0];
	ctx->user_port = client->port;
	count(ANSWERED);
	return 1;
}

/* An IPv6 socket, which may carry IPv4: then its peers are ::ffff:a.b.c.d. */
SEC("cgroup/getpeername6")
int name6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *socket = ctx->sk;
	struct client *client;

	if (!socket)
		return 1;
	client = bpf_sk_storage_get(&clients, socket, NULL, 0);
	if (!client)
		return 1;
	if (client->family == 6) {
		ctx->user_ip6[0] = client->address[0];
		ctx->user_ip6[1] = client->address[1];
		ctx->user_ip6[2] = client->address[2];
		ctx->user_ip6[3] = client->address[3];
	} else {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = bpf_htonl(0xffff);
		ctx->user_ip6[3] = client->address[0];
	}
	ctx->user_port = client->port;
	count(ANSWERED);
	return 1;
}

/* For programs made for DPVS's kernel module: an IPv6 client of an IPv4 socket. In all other cases the
 * kernel's own refusal stays, which is what those programs take for "no such client". */
SEC("cgroup/getsockopt")
int sockopt(struct bpf_sockopt *ctx)
{
	struct bpf_sock *socket = ctx->sk;
	__u32 *value = ctx->optval, *end = ctx->optval_end;
	struct client *client;

	if (ctx->level != IPPROTO_IP || ctx->optname != SO_CLIENT6) {
		/* Zero leaves the kernel's answer alone; older ones fail a long one with EFAULT otherwise. */
		if (ctx->optlen > SOCKOPT_SEEN_MAX)
			ctx->optlen = 0;
		return 1;
	}
	if (!socket || value + SO_CLIENT6_WORDS > end)
		return 1;
	client = bpf_sk_storage_get(&clients, socket, NULL, 0);
	if (!client || client->family != 6 || socket->family != AF_INET)
		return 1;
	value[0] = client->address[0];
	value[1] = client->address[1];
	value[2] = client->address[2];
	value[3] = client->address[3];
	value[4] = client->port;
	ctx->optlen = 4 * SO_CLIENT6_WORDS;
	/* Two stores and not one of eight bytes, which the verifier refuses. */
	asm volatile("" ::: "memory");
	ctx->retval = 0;
	count(ANSWERED_SOCKOPT);
	return 1;
}

#include "udp.h"

/* None of the helpers above asks for more than this. */
char _license[] SEC("license") = "Apache-2.0";
