//go:build ignore

// Marks what is written to the watched disks. DESIGN.md beside the Go package says what is proven by which event.
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

#define SLOTS 64
#define SECTOR_SHIFT 9
#define DIRECT_WORDS 64  // more whole words than these are set in the coarse bitmap, a bit for each
#define FILL_WORDS 260 // 4 GiB, the most that a request can hold, in grains of 4 KiB are 256 coarse words

// The low byte of bi_opf and cmd_flags. Numbers of operations have not changed since 4.10; those from 32 up are commands that a
// program passed to the device.
enum { OP_MASK = 0xff, OP_READ = 0, OP_FLUSH = 2, OP_DISCARD = 3, OP_PASSTHROUGH = 32 };

// Why a disk was lost; lossReasons in Go.
enum {
	LOST_RANGE = 1 << 0,
	LOST_PASSTHROUGH = 1 << 1,
	LOST_BITMAP = 1 << 2,
	LOST_BIO_TABLE = 1 << 3,
	LOST_BIO_UNKNOWN = 1 << 4,
	LOST_RANGES = 1 << 5,
};

struct device {
	__u64 sectors;
	__u64 words; // of the fine bitmap; the coarse one begins behind it
	__u32 slot;
	__u32 shift; // sectors to grains
	__u32 bio_based;
	__u32 pad;
};

struct control {
	__u32 epoch;    // whose lowest bit says which bitmap is marked
	__u32 bio_disks; // how many watched disks have no requests
	__u64 lost;     // passthrough to a queue that names no disk
	__u64 slots[SLOTS];
};

struct pending_bio {
	__u64 sector;
	__u64 sectors;
	__u32 dev;
	__u32 pad;
};

struct bitmap {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

// Entry 4*slot+epoch is a bitmap that is marked here, 4*slot+2 the one that only user space writes.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4 * SLOTS);
	__type(key, __u32);
	__array(values, struct bitmap);
} bitmaps SEC(".maps");

// Ranges of bios that are on their way to disks without requests, by the bio's address: a completion tells no range.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct pending_bio);
} bios SEC(".maps");

static __always_inline void lose(__u64 slot, __u64 why)
{
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	// Written so that the compiler cannot move the bound to where the verifier does not see it.
	asm volatile("%0 &= 63" : "+r"(slot));
	if (c)
		__sync_fetch_and_or(&c->slots[slot], why);
}

static __always_inline int set_word(void *bitmap, __u32 word, __u64 mask)
{
	__u64 *p = bpf_map_lookup_elem(bitmap, &word);
	if (!p)
		return 1;
	if ((*(volatile __u64 *)p & mask) != mask)
		__sync_fetch_and_or(p, mask);
	return 0;
}

// fill sets whole words; a plain store of all ones loses nobody's bits.
static __always_inline int fill(void *bitmap, __u64 word, __u64 end)
{
	for (__u32 i = 0; i < FILL_WORDS; i++) {
		__u32 w = word + i;
		if (w >= end)
			return 0;
		__u64 *p = bpf_map_lookup_elem(bitmap, &w);
		if (!p)
			return 1;
		*(volatile __u64 *)p = ~0ULL;
	}
	return word + FILL_WORDS < end;
}

// mark marks sectors of a slot's disk, which has words of bitmap, in the epoch that is now. A global function is verified once.
__attribute__((noinline)) int mark(__u64 slot, __u64 shift, __u64 words, __u64 sector, __u64 sectors)
{
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	if (!c || !sectors)
		return 0;
	shift &= 63;
	__u32 index = (slot & (SLOTS - 1)) * 4 + (*(volatile __u32 *)&c->epoch & 1);
#ifdef HOLD
	HOLD;
#endif
	void *bitmap = bpf_map_lookup_elem(&bitmaps, &index);
	__u64 first = sector >> shift, last = (sector + sectors - 1) >> shift;
	__u64 w0 = first >> 6, w1 = last >> 6;
	__u64 m0 = ~0ULL << (first & 63), m1 = ~0ULL >> (63 - (last & 63));
	if (!bitmap) {
		lose(slot, LOST_BITMAP);
		return 0;
	}
	if (w1 >= words) {
		lose(slot, LOST_RANGE);
		return 0;
	}
	if (w0 == w1) {
		if (set_word(bitmap, w0, m0 & m1))
			lose(slot, LOST_BITMAP);
		return 0;
	}
	if (set_word(bitmap, w0, m0) || set_word(bitmap, w1, m1)) {
		lose(slot, LOST_BITMAP);
		return 0;
	}
	if (w1 - w0 - 1 <= DIRECT_WORDS) {
		if (fill(bitmap, w0 + 1, w1))
			lose(slot, LOST_BITMAP);
		return 0;
	}
	first = w0 + 1;
	last = w1 - 1;
	w0 = first >> 6;
	w1 = last >> 6;
	m0 = ~0ULL << (first & 63);
	m1 = ~0ULL >> (63 - (last & 63));
	if (w0 == w1) {
		if (set_word(bitmap, words + w0, m0 & m1))
			lose(slot, LOST_BITMAP);
		return 0;
	}
	if (set_word(bitmap, words + w0, m0) || set_word(bitmap, words + w1, m1) || fill(bitmap, words + w0 + 1, words + w1))
		lose(slot, LOST_BITMAP);
	return 0;
}

static __always_inline __u32 number(struct gendisk *disk)
{
	return ((__u32)disk->major << 20) | (__u32)disk->first_minor;
}

// Not inlined, and verified once, for the loop over the bios of a discard.
__attribute__((noinline)) int lose_range(__u64 slot)
{
	lose(slot, LOST_RANGE);
	return 0;
}

static __always_inline void mark_device(struct device *d, __u64 sector, __u64 bytes)
{
	__u64 sectors = bytes >> SECTOR_SHIFT;
	if (!sectors)
		return;
	if (sector >= d->sectors || sectors > d->sectors - sector) {
		lose_range(d->slot);
		return;
	}
	mark(d->slot, d->shift, d->words, sector, sectors);
}

static __always_inline void passthrough(struct device *d)
{
	__u32 zero = 0;
	if (d) {
		lose(d->slot, LOST_PASSTHROUGH);
		return;
	}
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	if (c && !c->lost)
		__sync_fetch_and_or(&c->lost, 1);
}

static __always_inline int on_request(struct request *rq, __u64 bytes)
{
	__u32 op = rq->cmd_flags & OP_MASK;
	if (op == OP_READ || op == OP_FLUSH)
		return 0;
	struct request___disk *old = (void *)rq;
	struct gendisk *disk = 0;
	if (bpf_core_field_exists(old->rq_disk)) {
		disk = old->rq_disk;
	} else {
		struct request_queue *q = rq->q;
		if (q)
			disk = q->disk;
	}
	// A command without data may write, too: NVMe's Write Zeroes and SCSI's FORMAT UNIT are sent as "in", with no data.
	if (op >= OP_PASSTHROUGH && !(op & 1) && rq->__data_len)
		return 0;
	if (!disk) {
		if (op >= OP_PASSTHROUGH)
			passthrough(0);
		return 0;
	}
	__u32 dev = number(disk);
	struct device *d = bpf_map_lookup_elem(&devices, &dev);
	if (!d)
		return 0;
	if (op >= OP_PASSTHROUGH) {
		passthrough(d);
		return 0;
	}
	// A request to discard may hold several ranges: one for each bio.
	if (op == OP_DISCARD) {
		struct bio *b = rq->bio;
		int i;
		for (i = 0; i < 256 && b; i++) {
			mark_device(d, b->bi_iter.bi_sector, b->bi_iter.bi_size);
			b = b->bi_next;
		}
		if (b)
			lose(d->slot, LOST_RANGES);
		// The extent of several ranges together may reach past the end of the disk: it is only marked where it is one range.
		if (rq->bio && rq->bio->bi_next)
			return 0;
	}
	mark_device(d, rq->__sector, bytes);
	return 0;
}

static __always_inline int on_bio(struct bio *bio)
{
	__u32 op = bio->bi_opf & OP_MASK;
	if (op == OP_READ)
		return 0;
	struct block_device *bdev = bio->bi_bdev;
	if (!bdev)
		return 0;
	struct gendisk *disk = bdev->bd_disk;
	if (!disk)
		return 0;
	__u32 dev = number(disk);
	struct device *d = bpf_map_lookup_elem(&devices, &dev);
	if (!d)
		return 0;
	mark_device(d, bio->bi_iter.bi_sector, bio->bi_iter.bi_size);
	if (d->bio_based) {
		__u64 key = (__u64)bio;
		struct pending_bio p = {
			.sector = bio->bi_iter.bi_sector,
			.sectors = bio->bi_iter.bi_size >> SECTOR_SHIFT,
			.dev = dev,
		};
		if (bpf_map_update_elem(&bios, &key, &p, BPF_ANY))
			lose(d->slot, LOST_BIO_TABLE);
	}
	return 0;
}

SEC("tp_btf/block_bio_queue")
int bio_queue(__u64 *ctx)
{
	return on_bio((struct bio *)ctx[0]);
}

SEC("tp_btf/block_rq_issue")
int rq_issue(__u64 *ctx)
{
	struct request *rq = (struct request *)ctx[0];
	return on_request(rq, rq->__data_len);
}

SEC("tp_btf/block_rq_complete")
int rq_complete(__u64 *ctx)
{
	return on_request((struct request *)ctx[0], (__u32)ctx[2]);
}

// The same again: what interrupts rq_complete on its processor is skipped there, and seen here.
SEC("tp_btf/block_rq_complete")
int rq_complete_again(__u64 *ctx)
{
	return on_request((struct request *)ctx[0], (__u32)ctx[2]);
}

SEC("tp_btf/block_bio_complete")
int bio_complete(__u64 *ctx)
{
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	if (!c || !c->bio_disks)
		return 0;
	struct bio *bio = (struct bio *)ctx[1];
	__u64 key = (__u64)bio;
	struct pending_bio *p = bpf_map_lookup_elem(&bios, &key);
	if (p) {
		__u32 dev = p->dev;
		struct device *d = bpf_map_lookup_elem(&devices, &dev);
		if (d)
			mark_device(d, p->sector, p->sectors << SECTOR_SHIFT);
		bpf_map_delete_elem(&bios, &key);
		return 0;
	}
	if ((bio->bi_opf & OP_MASK) == OP_READ || !bio->bi_bdev || !bio->bi_bdev->bd_disk)
		return 0;
	__u32 dev = number(bio->bi_bdev->bd_disk);
	struct device *d = bpf_map_lookup_elem(&devices, &dev);
	if (d && d->bio_based)
		lose(d->slot, LOST_BIO_UNKNOWN);
	return 0;
}
