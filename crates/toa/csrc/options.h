/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds the client's address among the options of a TCP header: kind 254, its length 8 for IPv4 or 20 for
 * IPv6, port and address in network order. Compiled for the kernel and, by a test, for this machine. */
#ifndef DPTOA_OPTIONS_H
#define DPTOA_OPTIONS_H

#include <linux/types.h>

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_CLIENT 254
#define CLIENT4_LEN 8
#define CLIENT6_LEN 20
/* A data offset of 15 leaves 40 bytes behind the fixed header (RFC 9293, 3.1). */
#define OPTIONS_MAX 40

/* Whom a socket's peer speaks for. Network order; an IPv4 address is the first of the four words. */
struct client {
	__u8 family; /* 4 or 6 */
	__u8 unused;
	__u16 port;
	__u32 address[4];
};

/* Reads the first whole option 254 of `len` bytes of options; `options` has OPTIONS_MAX in any case.
 *
 * Every place is gone through, and one that begins an option is acted upon: so all offsets are numbers that
 * the kernel's verifier knows. Offsets that follow from lengths in the packet would be too many to it. */
static __always_inline int find_client(const __u8 *options, __u32 len, struct client *client)
{
	__u32 next = 0;

	for (__u32 at = 0; at <= OPTIONS_MAX - CLIENT4_LEN; at++) {
		if (at != next)
			continue;
		__u8 kind = options[at], size = options[at + 1];

		if (kind == OPTION_END || at >= len)
			return 0;
		if (kind == OPTION_NOP) {
			next = at + 1;
			continue;
		}
		next = at + size;
		/* Malformed: what follows has no meaning. */
		if (size < 2 || next > len)
			return 0;
		if (kind != OPTION_CLIENT)
			continue;
		if (size == CLIENT6_LEN && at <= OPTIONS_MAX - CLIENT6_LEN) {
			client->family = 6;
			__builtin_memcpy(&client->address[1], &options[at + 8], 12);
		} else if (size == CLIENT4_LEN) {
			client->family = 4;
			client->address[1] = client->address[2] = client->address[3] = 0;
		} else {
			continue;
		}
		client->unused = 0;
		__builtin_memcpy(&client->port, &options[at + 2], 2);
		__builtin_memcpy(&client->address[0], &options[at + 4], 4);
		return 1;
	}
	return 0;
}

#endif
