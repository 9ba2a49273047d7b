package format

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
)

// levelsFor is Levels for any fan-out.
func levelsFor(chunks, fanout int64) int {
	levels := 1
	for reach := fanout; reach < chunks; reach *= fanout {
		levels++
	}
	return levels
}

// nodeCost is what one restpoint adds to staging for its tree over chunks that are all present, when the chunks in changed
// (ascending) are new: the number of new nodes, and their bytes with tag and footer entry. The bitmap has a bit for each child.
func nodeCost(chunks, fanout int64, changed iter.Seq[int64]) (nodes, bytes int64) {
	overhead := 4 + fanout/8 + tagSize + entrySize
	last := slices.Repeat([]int64{-1}, levelsFor(chunks, fanout))
	below := make([]int64, len(last)) // children that the nodes of a level share
	n := chunks
	for i := range last {
		below[i] = n
		n = (n + fanout - 1) / fanout
	}
	for c := range changed {
		for level := range last {
			if c /= fanout; c == last[level] {
				break // and so are all nodes above it
			}
			last[level] = c
			nodes++
			bytes += overhead + min(fanout, below[level]-c*fanout)*chunker.IDSize
		}
	}
	return nodes, bytes
}

func spread(chunks, step int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for i := int64(0); i < chunks && yield(i); i += step {
		}
	}
}

func oneRun(from, n int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for i := from; i < from+n && yield(i); i++ {
		}
	}
}

func drawn(r *rand.Rand, chunks int64, n int) iter.Seq[int64] {
	set := map[int64]bool{}
	for len(set) < n {
		set[r.Int64N(chunks)] = true
	}
	list := make([]int64, 0, n)
	for i := range set {
		list = append(list, i)
	}
	slices.Sort(list)
	return slices.Values(list)
}

// TestManifestCost computes the table of SPEC.md that fan-out was chosen by, and fails when the text says something else.
func TestManifestCost(t *testing.T) {
	spec, err := os.ReadFile("SPEC.md")
	must(t, err)
	expect := func(s string) {
		t.Helper()
		if !strings.Contains(string(spec), s) {
			t.Errorf("SPEC.md does not say, as computed:\n%s", s)
		}
	}
	const chunks, draws = int64(1<<40) / chunker.DefaultSize, 1000
	for _, fanout := range []int64{16, 32, 64, 128, 256} {
		r := rand.New(rand.NewPCG(1, 1))
		var random int64
		for range draws {
			_, n := nodeCost(chunks, fanout, drawn(r, chunks, 50))
			random += n
		}
		_, even := nodeCost(chunks, fanout, spread(chunks, 1000))
		_, place := nodeCost(chunks, fanout, oneRun(chunks/3, chunks/1000))
		nodes, whole := nodeCost(chunks, fanout, oneRun(0, chunks))
		name := strconv.FormatInt(fanout, 10)
		if fanout == Fanout {
			name = "**" + name + "**"
		}
		expect(fmt.Sprintf("| %s | %d | %s KiB | %s KiB | %s KiB | %s MiB |\n", name, levelsFor(chunks, fanout),
			inUnits(random/draws, 1<<10), inUnits(even, 1<<10), inUnits(place, 1<<10), inUnits(whole, 1<<20)))
		rows := fmt.Sprintf("%.1f %%", 100*float64(nodes)/float64(chunks))
		switch fanout {
		case Fanout:
			expect("index rows at " + rows)
		case 16:
			expect("(16: " + rows + ")")
		}
	}
}

// inUnits rounds and puts a comma before the last three digits.
func inUnits(n, unit int64) string {
	n = (n + unit/2) / unit
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// TestNodeCostIsWhatTreesCost holds the computation against trees that are built and packed.
func TestNodeCostIsWhatTreesCost(t *testing.T) {
	k := vectorKeys(t)
	r := rand.New(rand.NewPCG(2, 2))
	w, err := NewPackWriter(k, make([]byte, 0, MaxPack))
	must(t, err)
	empty := w.Len()
	for _, chunks := range []int64{1, 64, 65, 5000, 64*64*64 + 700} {
		first := map[chunker.ID]bool{}
		build(t, k, chunks, nil, func(id chunker.ID, _ []byte) { first[id] = true })
		for name, changed := range map[string]iter.Seq[int64]{
			"nothing":      oneRun(0, 0),
			"one":          oneRun(chunks-1, 1),
			"random":       drawn(r, chunks, int(min(chunks, 50))),
			"evenly":       spread(chunks, 1000),
			"in one place": oneRun(chunks/3, max(1, chunks/1000)),
			"all":          oneRun(0, chunks),
		} {
			set := map[int64]bool{}
			for i := range changed {
				set[i] = true
			}
			must(t, w.Reset())
			build(t, k, chunks, set, func(id chunker.ID, b []byte) {
				if !first[id] {
					must(t, w.Append(KindNode, id, chunker.Raw, len(b), b))
				}
			})
			nodes, bytes := nodeCost(chunks, Fanout, changed)
			if int64(w.Count()) != nodes || int64(w.Len()-empty) != bytes {
				t.Errorf("%s of %d chunks: %d nodes, %d bytes; computed %d and %d", name, chunks, w.Count(), w.Len()-empty, nodes, bytes)
			}
		}
	}
}

// build makes a tree whose chunks are all present, and other in changed.
func build(t *testing.T, k *Keys, chunks int64, changed map[int64]bool, emit func(chunker.ID, []byte)) {
	t.Helper()
	b := NewTreeBuilder(chunker.NewHasher(k.NodeKey()), chunks, func(_ int, _ int64, id chunker.ID, encoded []byte) error {
		emit(id, encoded)
		return nil
	})
	for i := range chunks {
		id := chunker.ID{31: 1}
		binary.LittleEndian.PutUint64(id[:], uint64(i))
		if changed[i] {
			id[31] = 2
		}
		must(t, b.Add(i, id))
	}
	_, err := b.Finish()
	must(t, err)
}
