//! Safe DPDK: start-up, interfaces, queues, mempools and packets owned by move.
