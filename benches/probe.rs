//! What the machine's memory costs: a bucket line and a flow line for each packet, and nothing else.

use arch::{HugeSlab, PageRequest};
use flow::FlowTable;

use crate::frame::BURST;
use crate::lab::CHUNK;
use crate::stats::Samples;
use crate::traffic::{Random, mix};

/// As many lines as the table has, on pages of the same kind, in bursts of the same size.
pub struct Probe {
    buckets: HugeSlab<[u32; 16]>,
    flows: HugeSlab<[u64; 8]>,
    count: u32,
}

impl Probe {
    /// For a table for `max` conns with so many in it.
    pub fn new(max: u32, conns: u32) -> Self {
        let plan = FlowTable::<u32>::plan(max);
        let count = conns * 2;
        let slab = |bytes: u64| (bytes / 64) as usize;
        let mut buckets = HugeSlab::new(slab(plan.index), PageRequest::Auto).expect("memory");
        let mut flows = HugeSlab::new(slab(plan.flows), PageRequest::Auto).expect("memory");
        for flow in 0..count {
            let bucket: &mut [u32; 16] = buckets.get_mut(bucket(flow, &buckets)).expect("a bucket");
            bucket[flow as usize % 16] = flow;
            *flows.get_mut(flow as usize).expect("a flow") = [1; 8];
        }
        Self { buckets, flows, count }
    }

    /// Accesses as many as so many chunks of packets would make; returns the cycles
    /// of each chunk.
    pub fn round(&mut self, chunks: usize, random: &mut Random) -> Samples {
        let mut chosen = [(0, 0); CHUNK];
        let mut cycles = Samples::default();
        for _ in 0..chunks {
            for (bucket_number, lane) in &mut chosen {
                let flow = random.below(self.count);
                (*bucket_number, *lane) = (bucket(flow, &self.buckets), flow as usize % 16);
            }
            let start = arch::tsc();
            for burst in chosen.chunks_exact(BURST) {
                self.burst(burst);
            }
            cycles.add((arch::tsc() - start) as f64);
        }
        cycles
    }

    #[inline(never)]
    fn burst(&mut self, burst: &[(usize, usize)]) {
        let mut flows = [0; BURST];
        for (bucket, _) in burst {
            self.buckets.prefetch(*bucket);
        }
        for (flow, (bucket, lane)) in flows.iter_mut().zip(burst) {
            *flow = self.buckets.get(*bucket).map_or(0, |bucket| bucket[lane % 16]);
            self.flows.prefetch_write(*flow as usize);
        }
        for flow in flows {
            if let Some(flow) = self.flows.get_mut(flow as usize) {
                flow[7] += flow[0];
            }
        }
    }
}

/// The bucket that names a flow.
fn bucket(flow: u32, buckets: &HugeSlab<[u32; 16]>) -> usize {
    ((u64::from(mix(flow)) * buckets.len() as u64) >> 32) as usize
}
