// The few fields of kernel structures that the programs read. CO-RE finds their offsets in the running kernel when the programs
// are loaded, so no vmlinux.h is needed, and one object serves amd64 and arm64.
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
};
enum { BPF_ANY = 0, BPF_F_MMAPABLE = 1U << 10, BPF_F_INNER_MAP = 1U << 12 };

#define CORE __attribute__((preserve_access_index))

struct gendisk {
	int major;
	int first_minor;
} CORE;

struct block_device {
	struct gendisk *bd_disk;
} CORE;

struct bvec_iter {
	__u64 bi_sector;
	unsigned int bi_size;
} CORE;

struct bio {
	struct bio *bi_next;
	struct block_device *bi_bdev;
	__u32 bi_opf;
	struct bvec_iter bi_iter;
} CORE;

struct request_queue {
	struct gendisk *disk; // since 5.15
} CORE;

struct request {
	struct request_queue *q;
	struct bio *bio;
	__u64 __sector;
	unsigned int __data_len;
	__u32 cmd_flags;
} CORE;

// Until 5.16 a request names its disk itself.
struct request___disk {
	struct gendisk *rq_disk;
} CORE;
