//! What depends on the processor: prefetch, tag compare, huge-page slabs, the cycle counter.
