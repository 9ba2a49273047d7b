package freespace

import (
	"encoding/binary"
	"errors"
)

// A swap area's first page (include/linux/swap.h, union swap_header), in the byte order of the machine:
//
//	      1024  4  version, 1
//	      1028  4  last page of the area
//	      1032  4  bad pages
//	      1036 16  UUID
//	      1052 16  label
//	page − 10  10  "SWAPSPACE2"; a system that hibernates writes "S1SUSPEND" there
const (
	swapVersionAt   = 1024
	swapLastPageAt  = 1028
	swapSignature   = "SWAPSPACE2"
	swapMinPage     = 4096
	hibernateOld    = "S1SUSPEND"
	hibernateNewer  = "S2SUSPEND"
	hibernateCustom = "ULSUSPEND"
)

// swapContent is what an active swap area holds that needs no copy: all pages but the first, which has the label.
func swapContent(first []byte, size int64) (Range, error) {
	page := int64(len(first))
	if page < swapMinPage {
		return Range{}, errors.New("its first page is cut short")
	}
	switch signature := string(first[page-10:]); {
	case signature == swapSignature:
	case signature[:9] == hibernateOld, signature[:9] == hibernateNewer, signature[:9] == hibernateCustom:
		return Range{}, errors.New("a hibernated system is in it")
	default:
		return Range{}, errors.New("it has no swap signature")
	}
	if binary.NativeEndian.Uint32(first[swapVersionAt:]) != 1 {
		return Range{}, errors.New("its version of swap is not known")
	}
	end := min((int64(binary.NativeEndian.Uint32(first[swapLastPageAt:]))+1)*page, size)
	if end <= page {
		return Range{}, errors.New("it holds no pages")
	}
	return Range{page, end}, nil
}
