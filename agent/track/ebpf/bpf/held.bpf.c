//go:build ignore

// The programs with a place at which a test can stop one: between reading the epoch and setting the bit. Only tests load them.
#include "kernel.h"
#include <bpf/bpf_helpers.h>

struct hold {
	__u32 armed;  // 1: the next program that marks is held; 2: the next one is skipped, as when it recurses
	__u32 inside; // how many were held
	__u64 nanoseconds;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hold);
} held SEC(".maps");

static int until(__u32 i, void *end)
{
	return bpf_ktime_get_ns() >= *(__u64 *)end;
}

// hold tells whether to mark nothing.
static __always_inline int hold(void)
{
	__u32 zero = 0;
	struct hold *h = bpf_map_lookup_elem(&held, &zero);
	if (!h)
		return 0;
	__u32 armed = h->armed;
	if (!armed || __sync_val_compare_and_swap(&h->armed, armed, 0) != armed)
		return 0;
	if (armed == 2)
		return 1;
	__u64 end = bpf_ktime_get_ns() + h->nanoseconds;
	__sync_fetch_and_add(&h->inside, 1);
	bpf_loop(1 << 23, until, &end, 0);
	// Of the two copies of rq_complete one is enough.
	h->armed = 2;
	return 0;
}

#define HOLD if (hold()) return 0
#include "track.bpf.c"
