// Package catalog knows machines, replication sessions, packs, the chunk index, restpoints and jobs, and moves them through
// their states. It is the only writer of the master's tables (DESIGN.md beside this file draws them), and speaks
// no HTTP: master/api does.
//
// The invariant that everything here keeps: a restpoint that is listed is complete. Every id in its trees resolves to
// an entry of a live pack in the bucket, and stays so while the restpoint is listed, a live session has it as its
// parent, or a job reads it. The bucket is written before the rows that speak of it, and rows are withdrawn before the bucket is.
//
// Agents are hostile until proven otherwise. What an agent may name in a manifest is what its session has pinned: packs
// that it announced itself, and packs in which an offer found an id for it. An offer finds only the machine's
// own packs and those that a node has opened and proven.
//
// A Catalog may be used by any number of goroutines at once. One process at a time works on a store. Errors that a
// client caused are *wire.Problem; test for them with wire.HasCode. Other errors are the master's own.
package catalog
