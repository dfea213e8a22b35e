/* What dpdk-sys binds: DPDK's own headers, the shim's functions, and numbers that bindgen cannot
 * take from macros or from structures whose shape differs between DPDK's versions. */
#ifndef DPNAT_SHIM_H
#define DPNAT_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Where the fields of an mbuf are, as the compiler sees it. */
enum {
	DPNAT_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	DPNAT_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	DPNAT_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	DPNAT_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	DPNAT_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	DPNAT_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	DPNAT_MBUF_HASH_RSS = offsetof(struct rte_mbuf, hash.rss),
	DPNAT_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	DPNAT_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	DPNAT_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	DPNAT_MBUF_SIZE = sizeof(struct rte_mbuf),
	DPNAT_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM,
	DPNAT_MEMPOOL_HEADER = sizeof(struct rte_mempool_objhdr),
	DPNAT_MEMPOOL_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE,
	DPNAT_MAX_LCORE = RTE_MAX_LCORE,
};

static const uint64_t DPNAT_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t DPNAT_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t DPNAT_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t DPNAT_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t DPNAT_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t DPNAT_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t DPNAT_TX_VLAN = RTE_MBUF_F_TX_VLAN;
static const uint64_t DPNAT_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t DPNAT_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t DPNAT_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t DPNAT_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t DPNAT_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t DPNAT_RX_OFFLOAD_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint64_t DPNAT_TX_OFFLOAD_VLAN_INSERT = RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
static const uint64_t DPNAT_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

/* A link's state without the bit fields and unions of struct rte_eth_link. */
struct dpnat_link {
	uint32_t speed_mbps; /* 0: none, UINT32_MAX: unknown */
	uint8_t full_duplex;
	uint8_t up;
};

/* Receives one message: its level (RTE_LOG_*) and `len` bytes, not terminated. */
typedef void (*dpnat_log_fn)(uint32_t level, const char *text, size_t len);

uint16_t dpnat_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);
uint16_t dpnat_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);
struct rte_mempool *dpnat_pool_create(const char *name, unsigned int count, unsigned int cache,
				      uint16_t room, int numa_node, int dense);
struct rte_mbuf *dpnat_alloc(struct rte_mempool *pool);
int dpnat_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count);
void dpnat_free(struct rte_mbuf *packet);
void dpnat_free_segment(struct rte_mbuf *segment);
int dpnat_linearize(struct rte_mbuf *packet);
int dpnat_errno(void);
unsigned int dpnat_lcore_id(void);
int dpnat_link(uint16_t port, struct dpnat_link *link);
int dpnat_log_open(dpnat_log_fn sink);

#endif
