/* DPDK's inline functions that a burst needs, as functions that Rust can call: one call a burst, or
 * one on a rare road. */
#define _GNU_SOURCE
#include "shim.h"

#include <rte_mbuf_pool_ops.h>
#include <stdio.h>
#include <sys/types.h>

uint16_t dpnat_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, packets, count);
}

uint16_t dpnat_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, packets, count);
}

/* As rte_pktmbuf_pool_create, and `dense` lets an mbuf lie across two pages. Without huge pages DPDK
 * would else put each mbuf into a 4 KiB page of its own: twice the memory, and the headers of all
 * in the same few sets of the first-level cache. Only where device addresses are virtual ones. */
struct rte_mempool *dpnat_pool_create(const char *name, unsigned int count, unsigned int cache,
				      uint16_t room, int numa_node, int dense)
{
	struct rte_pktmbuf_pool_private priv = { .mbuf_data_room_size = room };
	unsigned int size = sizeof(struct rte_mbuf) + room;
	unsigned int flags = 0;
	struct rte_mempool *pool;

	if (dense && rte_eal_iova_mode() == RTE_IOVA_VA)
		flags |= RTE_MEMPOOL_F_NO_IOVA_CONTIG;
	pool = rte_mempool_create_empty(name, count, size, cache, sizeof(priv), numa_node, flags);
	if (pool == NULL)
		return NULL;
	rte_errno = -rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (rte_errno == 0) {
		int populated;

		rte_pktmbuf_pool_init(pool, &priv);
		populated = rte_mempool_populate_default(pool);
		if (populated >= 0) {
			rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
			return pool;
		}
		rte_errno = -populated;
	}
	rte_mempool_free(pool);
	return NULL;
}

struct rte_mbuf *dpnat_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int dpnat_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, packets, count);
}

void dpnat_free(struct rte_mbuf *packet)
{
	rte_pktmbuf_free(packet);
}

void dpnat_free_segment(struct rte_mbuf *segment)
{
	rte_pktmbuf_free_seg(segment);
}

int dpnat_linearize(struct rte_mbuf *packet)
{
	return rte_pktmbuf_linearize(packet);
}

int dpnat_errno(void)
{
	return rte_errno;
}

unsigned int dpnat_lcore_id(void)
{
	return rte_lcore_id();
}

int dpnat_link(uint16_t port, struct dpnat_link *link)
{
	struct rte_eth_link state;
	int ret = rte_eth_link_get_nowait(port, &state);

	if (ret != 0)
		return ret;
	link->speed_mbps = state.link_speed;
	link->full_duplex = state.link_duplex;
	link->up = state.link_status;
	return 0;
}

static dpnat_log_fn log_sink;

static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	log_sink((uint32_t)rte_log_cur_msg_loglevel(), text, len);
	return (ssize_t)len;
}

/* DPDK flushes after each message, so that one write is one message, on the thread that logs. */
int dpnat_log_open(dpnat_log_fn sink)
{
	cookie_io_functions_t calls = { .write = log_write };
	FILE *stream;

	log_sink = sink;
	stream = fopencookie(NULL, "w", calls);
	if (stream == NULL)
		return -1;
	return rte_openlog_stream(stream);
}
