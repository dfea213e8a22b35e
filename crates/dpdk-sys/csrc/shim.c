/* DPDK's inline functions that a burst needs, as functions that Rust can call: one call a burst, or
 * one on a rare road. */
#define _GNU_SOURCE
#include "shim.h"

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
