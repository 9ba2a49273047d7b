package api

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/launch"
	"github.com/openmigrate/openmigrate/wire"
)

type MachineRef struct {
	Machine string `path:"machine" maxLength:"256" doc:"Id or name."`
}

type machineOut struct {
	ETag string `header:"ETag"`
	Body wire.MachineInfo
}

func (s *server) registerMachines(api huma.API) {
	add(s, api, op{id: "list-machines", method: "GET", path: wire.PathMachines, tag: "machines", summary: "List machines",
		text: "Without their inventory and events."}, s.listMachines)
	add(s, api, op{id: "get-summary", method: "GET", path: wire.PathSummary, tag: "machines", summary: "Count a project's machines by state, and name those that are worst off"}, s.summary)
	add(s, api, op{id: "get-machine", method: "GET", path: wire.PathMachine, tag: "machines", summary: "Show a machine"}, s.getMachine)
	add(s, api, op{id: "change-machine", method: "PATCH", path: wire.PathMachine, tag: "machines", summary: "Change how a machine is replicated, or what it belongs to"}, s.changeMachine)
	add(s, api, op{id: "remove-machine", method: "DELETE", path: wire.PathMachine, tag: "machines", summary: "Remove a machine with all its restpoints",
		text: "Its agent is shut out."}, s.removeMachine)
	add(s, api, op{id: "pause-machine", method: "POST", path: wire.PathMachinePause, tag: "machines", summary: "Stop a machine's cycles"}, s.pauseMachine)
	add(s, api, op{id: "resume-machine", method: "POST", path: wire.PathMachineGoOn, tag: "machines", summary: "Let a machine's cycles go on"}, s.resumeMachine)
	add(s, api, op{id: "sync-machine", method: "POST", path: wire.PathMachineSync, tag: "machines", summary: "Ask for a restpoint now", status: http.StatusAccepted, creates: true}, s.syncMachine)
	add(s, api, op{id: "get-sync", method: "GET", path: wire.PathSync, tag: "machines", summary: "What became of a wish for a restpoint"}, s.getSync)
	add(s, api, op{id: "revoke-machine", method: "POST", path: wire.PathRevoke, tag: "machines", summary: "Shut a machine's agent out for ever",
		text: "Its restpoints stay."}, s.revokeMachine)
	add(s, api, op{id: "unfreeze-machine", method: "POST", path: wire.PathUnfreeze, tag: "machines", summary: "Let an identity work again that was seen on two hosts"}, s.unfreezeMachine)
	add(s, api, op{id: "list-machine-disks", method: "GET", path: wire.PathMachineDisks, tag: "machines", summary: "List a machine's disks",
		text: "As its agent sees them, with which tracker and consistency each gets, and why not better ones."}, s.listDisks)
}

// machine finds a machine of the caller's project by id or name; one of another project is as good as absent.
func (s *server) machine(ctx context.Context, ref string) (catalog.Machine, error) {
	return s.Catalog.MachineOf(ctx, person(ctx).Project, ref)
}

// machines are all of the caller's project, as lists show them.
func (s *server) machines(ctx context.Context) ([]catalog.Machine, error) {
	if s.Fleet != nil {
		return s.Fleet.Machines(ctx, person(ctx).Project)
	}
	return s.Catalog.Machines(ctx, person(ctx).Project)
}

type listMachinesIn struct {
	PageParams
	Sort        string   `query:"sort" enum:"name,-name,rpo,-rpo,lag,-lag,backlog,-backlog,created,-created,last_seen,-last_seen,replication,-replication,life,-life,group,-group" default:"name" doc:"- is descending."`
	Search      string   `query:"search" maxLength:"256" doc:"Text that the name, id, system, group or a tag holds."`
	Replication []string `query:"replication" maxItems:"16" doc:"Any of these states of replication."`
	Life        []string `query:"life" maxItems:"16" doc:"Any of these states on the way to the target."`
	OS          string   `query:"os" maxLength:"256" doc:"Text that the name of the operating system holds."`
	Group       []string `query:"group" maxItems:"32" doc:"Any of these groups."`
	Tag         []string `query:"tag" maxItems:"32" doc:"All of these tags."`
	Warm        bool     `query:"warm" doc:"Only those with standing volumes."`
	Attention   bool     `query:"attention" doc:"Only those for which there is something to do about their replication."`
}

// listedMachine is a machine of a list: what it is chosen and sorted by. The rest is made for those of the page alone.
type listedMachine struct {
	m        *catalog.Machine
	standing catalog.Standing
	life     launch.Life
}

func (in *listMachinesIn) wants(x *listedMachine) bool {
	m := x.m
	if !oneOf(in.Replication, x.standing.State) || !oneOf(in.Life, x.life.State) || !oneOf(in.Group, m.Group) || in.Attention && x.standing.NextStep == "none" || in.Warm && x.life.Warm == nil {
		return false
	}
	for _, t := range in.Tag {
		if !slices.Contains(m.Tags, t) {
			return false
		}
	}
	holds := func(text, part string) bool { return strings.Contains(strings.ToLower(text), part) }
	if in.OS != "" && !holds(m.OS(), strings.ToLower(in.OS)) {
		return false
	}
	if in.Search == "" {
		return true
	}
	part := strings.ToLower(in.Search)
	return holds(m.Name, part) || holds(m.ID, part) || holds(m.OS(), part) || holds(m.Group, part) ||
		slices.ContainsFunc(m.Tags, func(t string) bool { return holds(t, part) })
}

// machineKey is what a list of machines is sorted by.
func machineKey(sort string) func(*listedMachine) sortKey {
	return func(x *listedMachine) sortKey {
		k := sortKey{ID: x.m.ID}
		switch strings.TrimPrefix(sort, "-") {
		case "rpo":
			k.Number = int64(x.standing.RPO)
		case "lag":
			k.Number = int64(x.standing.Lag)
		case "backlog":
			k.Number = x.standing.Backlog
		case "created":
			k.Number = x.m.Created.UnixNano()
		case "last_seen":
			k.Number = x.m.LastSeen.UnixNano()
		case "replication":
			k.Text = x.standing.State
		case "life":
			k.Text = x.life.State
		case "group":
			k.Text = x.m.Group
		default:
			k.Text = x.m.Name
		}
		return k
	}
}

// chosen are the machines that a list is of. needLife: it is chosen or sorted by the life of machines.
func (s *server) chosen(ctx context.Context, in *listMachinesIn, needLife bool) ([]listedMachine, error) {
	list, err := s.machines(ctx)
	if err != nil {
		return nil, err
	}
	life := map[string]launch.Life{}
	if needLife {
		if life, err = s.Launches.Life(ctx, list); err != nil {
			return nil, err
		}
	}
	out := make([]listedMachine, 0, len(list))
	for i := range list {
		m := &list[i]
		x := listedMachine{m: m, standing: s.Catalog.Standing(m), life: life[m.ID]}
		if in.wants(&x) {
			out = append(out, x)
		}
	}
	return out, nil
}

func (s *server) listMachines(ctx context.Context, in *listMachinesIn) (*pageOut[wire.MachineInfo], error) {
	needLife := in.Warm || len(in.Life) > 0 || strings.TrimPrefix(in.Sort, "-") == "life"
	list, err := s.chosen(ctx, in, needLife)
	if err != nil {
		return nil, err
	}
	p, err := page(list, &in.PageParams, in.Sort, machineKey(in.Sort))
	if err != nil {
		return nil, err
	}
	shown := make([]catalog.Machine, 0, len(p.Items))
	for _, x := range p.Items {
		shown = append(shown, *x.m)
	}
	life, err := s.Launches.Life(ctx, shown)
	if err != nil {
		return nil, err
	}
	out := wire.Page[wire.MachineInfo]{Items: make([]wire.MachineInfo, 0, len(shown)), NextCursor: p.NextCursor, Total: p.Total}
	for i := range shown {
		info := s.machineInfo(&shown[i], life[shown[i].ID])
		info.Inventory, info.Events, info.Report.Disks = nil, nil, nil
		out.Items = append(out.Items, info)
	}
	return &pageOut[wire.MachineInfo]{out}, nil
}

type summaryOut struct{ Body wire.FleetSummary }

// worst is how many machines an overview names.
const worst = 10

// summary counts a project's machines, and names those that are worst off.
func (s *server) summary(ctx context.Context, _ *struct{}) (*summaryOut, error) {
	list, err := s.chosen(ctx, &listMachinesIn{}, true)
	if err != nil {
		return nil, err
	}
	sum := wire.FleetSummary{Machines: len(list), Replication: map[string]int{}, Life: map[string]int{}, Groups: []string{}, Tags: []string{}, Systems: []string{}, Attention: []wire.MachineStanding{}, WorstRPO: []wire.MachineStanding{}}
	groups, tags, systems := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var late []listedMachine
	var rpo []listedMachine
	for _, x := range list {
		sum.Replication[x.standing.State]++
		sum.Life[x.life.State]++
		sum.Backlog += x.standing.Backlog
		if x.m.Session != "" {
			sum.Replicating++
			sum.Throughput += x.standing.Throughput
		}
		if x.standing.NextStep != "none" {
			sum.NeedAttention++
			late = append(late, x)
		}
		if x.m.LastRestpoint != "" {
			rpo = append(rpo, x)
		}
		groups[x.m.Group], systems[x.m.OS()] = true, true
		for _, t := range x.m.Tags {
			tags[t] = true
		}
	}
	for into, set := range map[*[]string]map[string]bool{&sum.Groups: groups, &sum.Tags: tags, &sum.Systems: systems} {
		delete(set, "")
		names := slices.Sorted(maps.Keys(set))
		*into = append(*into, names[:min(len(names), wire.MaxPage)]...)
	}
	urgency := func(x *listedMachine) int64 { // the state first, then how late
		order := []string{catalog.Stalled, catalog.Disconnected, catalog.Lagging, catalog.Rescanning, catalog.Held, catalog.Paused, catalog.InitialSync, catalog.Enrolled}
		i := slices.Index(order, x.standing.State)
		if x.m.Frozen != "" || x.m.Revoked {
			i = 0
		}
		if i < 0 {
			i = len(order)
		}
		return int64(i)<<48 - int64(x.standing.Lag/time.Second)
	}
	slices.SortFunc(late, func(a, b listedMachine) int {
		return cmp.Or(cmp.Compare(urgency(&a), urgency(&b)), cmp.Compare(a.m.Name, b.m.Name))
	})
	slices.SortFunc(rpo, func(a, b listedMachine) int {
		return cmp.Or(cmp.Compare(b.standing.RPO, a.standing.RPO), cmp.Compare(a.m.Name, b.m.Name))
	})
	for into, from := range map[*[]wire.MachineStanding][]listedMachine{&sum.Attention: late, &sum.WorstRPO: rpo} {
		for _, x := range from[:min(len(from), worst)] {
			*into = append(*into, wire.MachineStanding{ID: x.m.ID, Name: x.m.Name, Replication: x.standing.State, Reason: x.standing.Reason, NextStep: x.standing.NextStep,
				Life: x.life.State, RPO: rpoInfo(x.m, &x.standing)})
		}
	}
	return &summaryOut{sum}, nil
}

func (s *server) getMachine(ctx context.Context, in *MachineRef) (*machineOut, error) {
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	return s.answerMachine(ctx, &m)
}

func (s *server) answerMachine(ctx context.Context, m *catalog.Machine) (*machineOut, error) {
	life, err := s.Launches.Life(ctx, []catalog.Machine{*m})
	if err != nil {
		return nil, err
	}
	info := s.machineInfo(m, life[m.ID])
	return &machineOut{ETag: etag(info.Revision), Body: info}, nil
}

// settings are what people set of a machine.
type settings struct {
	Policy catalog.Policy `json:"policy"`
	Paused bool           `json:"paused"`
	Group  string         `json:"group,omitempty"`
	Tags   []string       `json:"tags,omitempty"`
}

func settingsOf(m *catalog.Machine) settings { return settings{m.Policy, m.Paused, m.Group, m.Tags} }

func machineRevision(m *catalog.Machine) string {
	return revision(settingsOf(m), m.Revoked, m.Frozen)
}

func (s *server) machineInfo(m *catalog.Machine, life launch.Life) wire.MachineInfo {
	standing := s.Catalog.Standing(m)
	interval := wire.Duration(m.Interval)
	report := m.Report
	info := wire.MachineInfo{
		ID: m.ID, Name: m.Name, Replication: standing.State, Reason: standing.Reason, NextStep: standing.NextStep,
		Life: life.State, LifeStep: life.NextStep, Warm: life.Warm,
		RPO: rpoInfo(m, &standing), Created: m.Created, LastSeen: m.LastSeen,
		LastRestpoint: m.LastRestpoint, LastConsistency: m.LastConsistency, LastTest: life.Test, Restpoints: m.Sequence, Paused: m.Paused, Frozen: m.Frozen, Revoked: m.Revoked,
		AgentVersion: m.AgentVersion, Session: m.Session, Progress: m.Progress, Report: &report, Events: m.Events, Inventory: m.Inventory,
		Policy: wire.MachinePolicy{Interval: &interval, Disks: m.Policy.Disks, ChunkSize: &m.Policy.ChunkSize,
			Bandwidth: &m.Policy.Bandwidth, Window: m.Policy.Window, Consistency: &m.Policy.Consistency},
		Project: m.Project, OS: m.OS(), Group: m.Group, Tags: m.Tags, Revision: machineRevision(m),
	}
	if !m.LastTime.IsZero() {
		info.LastTime = &m.LastTime
	}
	return info
}

func rpoInfo(m *catalog.Machine, s *catalog.Standing) wire.RPOInfo {
	duration := func(d time.Duration) wire.Duration { return wire.Duration(d.Round(time.Millisecond)) }
	info := wire.RPOInfo{Now: duration(s.RPO), Predicted: duration(s.Predicted), Target: duration(s.Target), Lag: duration(s.Lag),
		Backlog: s.Backlog, ChangeRate: s.Change, Throughput: s.Throughput}
	if m.LastRestpoint != "" {
		info.Instant = &m.LastInstant
	}
	if !s.ETA.IsZero() {
		info.ETA = &s.ETA
	}
	return info
}

type changeMachineIn struct {
	MachineRef
	Match
	Body wire.MachineChange
}

func (s *server) changeMachine(ctx context.Context, in *changeMachineIn) (*machineOut, error) {
	p := &in.Body
	if err := checkPolicy(&p.MachinePolicy); err != nil {
		return nil, err
	}
	if err := checkBelonging(p); err != nil {
		return nil, err
	}
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	before := settingsOf(&m)
	m, err = s.Catalog.UpdateMachine(ctx, m.ID, func(m *catalog.Machine) error {
		if err := in.check(machineRevision(m), true); err != nil {
			return err
		}
		before = settingsOf(m)
		if p.Interval != nil {
			m.Policy.Interval = time.Duration(*p.Interval)
		}
		if p.Disks != nil {
			m.Policy.Disks = p.Disks
		}
		if p.ChunkSize != nil {
			m.Policy.ChunkSize = *p.ChunkSize
		}
		if p.Bandwidth != nil {
			m.Policy.Bandwidth = *p.Bandwidth
		}
		if p.Window != nil {
			m.Policy.Window = p.Window
			if p.Window.From == p.Window.To {
				m.Policy.Window = nil
			}
		}
		if p.Consistency != nil {
			m.Policy.Consistency = *p.Consistency
		}
		if p.Group != nil {
			m.Group = *p.Group
		}
		if p.Tags != nil {
			m.Tags = slices.Compact(slices.Sorted(slices.Values(*p.Tags)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "machine", m.ID, m.Name, before, settingsOf(&m))
	return s.answerMachine(ctx, &m)
}

// machineChange names a machine that something is done to as a whole.
type machineChange struct {
	MachineRef
	Match
}

// change runs fn on a machine.
func (s *server) change(ctx context.Context, in *machineChange, fn func(id string) error) (*struct{}, error) {
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	if err := in.check(machineRevision(&m), false); err != nil {
		return nil, err
	}
	before := settingsOf(&m)
	if err := fn(m.ID); err != nil {
		return nil, err
	}
	var after any
	if m, err := s.Catalog.Machine(ctx, m.ID); err == nil {
		after = settingsOf(&m)
	}
	s.changed(ctx, "machine", m.ID, m.Name, before, after)
	return nil, nil
}

func (s *server) removeMachine(ctx context.Context, in *machineChange) (*struct{}, error) {
	return s.change(ctx, in, func(id string) error {
		if err := s.Catalog.RemoveMachine(ctx, id); err != nil {
			return err
		}
		if err := s.Identity.Revoke(ctx, ca.KindAgent, id, "the machine was removed"); err != nil {
			return err
		}
		return s.Staging.RetireMachine(ctx, id)
	})
}

func (s *server) pauseMachine(ctx context.Context, in *machineChange) (*struct{}, error) {
	return s.change(ctx, in, func(id string) error { return s.Catalog.SetPaused(ctx, id, true) })
}

func (s *server) resumeMachine(ctx context.Context, in *machineChange) (*struct{}, error) {
	return s.change(ctx, in, func(id string) error { return s.Catalog.SetPaused(ctx, id, false) })
}

func (s *server) revokeMachine(ctx context.Context, in *machineChange) (*struct{}, error) {
	return s.change(ctx, in, func(id string) error {
		// First shut out: the catalog wakes the agent's long poll, which must not answer any more.
		if err := s.Identity.Revoke(ctx, ca.KindAgent, id, "an operator revoked it"); err != nil {
			return err
		}
		if err := s.Catalog.Revoke(ctx, id); err != nil {
			return err
		}
		return s.Staging.PublishMachine(ctx, id)
	})
}

func (s *server) unfreezeMachine(ctx context.Context, in *machineChange) (*struct{}, error) {
	return s.change(ctx, in, func(id string) error { return s.Catalog.Unfreeze(ctx, id) })
}

type syncOut struct{ Body wire.SyncInfo }

type syncMachineIn struct {
	MachineRef
	Idempotent
}

func (s *server) syncMachine(ctx context.Context, in *syncMachineIn) (*syncOut, error) {
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	id, err := s.Catalog.RequestSync(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "machine", m.ID, m.Name, nil, map[string]string{"sync": id})
	return &syncOut{wire.SyncInfo{ID: id, Open: true}}, nil
}

type getSyncIn struct {
	MachineRef
	Sync string `path:"sync" maxLength:"256"`
}

func (s *server) getSync(ctx context.Context, in *getSyncIn) (*syncOut, error) {
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	out := wire.SyncInfo{ID: in.Sync, State: m.Report.State, Message: m.Report.Message, Progress: m.Progress}
	out.Open = m.Sync == out.ID
	for _, d := range m.Syncs {
		if d.ID == out.ID {
			out.Restpoint = d.Restpoint
		}
	}
	return &syncOut{out}, nil
}

type listDisksIn struct {
	MachineRef
	PageParams
}

func (s *server) listDisks(ctx context.Context, in *listDisksIn) (*pageOut[wire.DiskInfo], error) {
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	said := map[string]*wire.DiskReport{}
	for i := range m.Report.Disks {
		said[m.Report.Disks[i].ID] = &m.Report.Disks[i]
	}
	var out []wire.DiskInfo
	if m.Inventory != nil {
		for i := range m.Inventory.Devices {
			d := &m.Inventory.Devices[i]
			info := wire.DiskInfo{ID: d.ID, Name: d.Name, Path: d.Path, Type: d.Type, Size: d.Size, Replicated: d.Selected}
			if r := said[d.ID]; r != nil {
				say(&info, r)
				delete(said, d.ID)
			}
			out = append(out, info)
		}
	}
	for i := range m.Report.Disks { // image files, and what came after the inventory
		if r := &m.Report.Disks[i]; said[r.ID] != nil {
			info := wire.DiskInfo{ID: r.ID, Name: r.Name}
			say(&info, r)
			out = append(out, info)
		}
	}
	return listed(out, &in.PageParams, "name", func(d *wire.DiskInfo) sortKey { return sortKey{Text: d.Name, ID: d.ID} })
}

// say adds what the agent says of a disk.
func say(d *wire.DiskInfo, r *wire.DiskReport) {
	d.Replicated = true
	d.Tracker, d.TrackerWhy, d.Consistency, d.ConsistencyWhy = r.Tracker, r.TrackerWhy, r.Consistency, r.ConsistencyWhy
}
