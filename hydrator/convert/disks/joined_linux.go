package disks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/hydrator/fuse"
)

// A volume in several pieces is shown to a loop device as a file by a process of its own, this program started again: a process must
// not wait for itself in the kernel. That process ends when the kernel has let go of the file, and not before: what a file system has
// written gets to the disks even if we are killed.

// joinName tells that process what it is.
const joinName = "openmigrate-volume"

// joinTime is how long it may take to show its file, and to end.
const joinTime = time.Minute

// As in package fence, this must not depend on the program's main function.
func init() {
	if len(os.Args) == 1 && os.Args[0] == joinName {
		if err := serveJoined(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// joinRequest is what it reads. Descriptor 3 is a socket on which it sends the folder with the file, those from 4 on are the disks.
type joinRequest struct {
	Disks    int
	Pieces   []Piece // Disk counts the descriptors
	ReadOnly bool
}

func serveJoined() error {
	var r joinRequest
	if err := json.NewDecoder(io.LimitReader(os.Stdin, 1<<20)).Decode(&r); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	socket := os.NewFile(3, "socket")
	conn, err := net.FileConn(socket)
	if err = errors.Join(err, socket.Close()); err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	var files []file
	for i := range r.Disks {
		files = append(files, os.NewFile(uintptr(4+i), fmt.Sprintf("disk %d", i)))
	}
	shown := shownDisk{join(files, r.Pieces)}
	var d fuse.Disk = shown
	if !r.ReadOnly {
		d = writableDisk{shown}
	}
	m, err := fuse.NewPrivate([]fuse.Disk{d}, nil)
	if err != nil {
		return err
	}
	_, _, err = conn.(*net.UnixConn).WriteMsgUnix([]byte{0}, unix.UnixRights(int(m.File().Fd())), nil)
	return errors.Join(err, conn.Close(), m.Release())
}

// shownDisk is what package fuse shows.
type shownDisk struct{ all *joined }

func (shownDisk) Number() int { return 0 }

func (d shownDisk) Size() int64 { return d.all.Size() }

func (d shownDisk) ReadContext(_ context.Context, p []byte, off int64) (int, error) {
	return d.all.ReadAt(p, off)
}

func (shownDisk) Extent(_ context.Context, _, limit int64) (int64, bool, error) {
	return limit, false, nil
}

// writableDisk is a fuse.Writer.
type writableDisk struct{ shownDisk }

func (d writableDisk) WriteAt(p []byte, off int64) (int, error) { return d.all.WriteAt(p, off) }

func (d writableDisk) Sync() error { return d.all.Sync() }

// volumeFile is the file that shows a volume, and the process behind it.
type volumeFile struct {
	*os.File
	cmd *exec.Cmd
}

// openJoined starts the process. The caller closes the file, and waits when nothing uses it any more.
func openJoined(list []Disk, pieces []Piece, readOnly bool) (_ *volumeFile, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("show a volume in pieces: %w", err)
		}
	}()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	open := []*os.File{theirs}
	defer func() {
		for _, f := range append(open, ours) {
			_ = f.Close()
		}
	}()
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	r := joinRequest{ReadOnly: readOnly}
	place := map[int]int{}
	for _, p := range pieces {
		if _, ok := place[p.Disk]; !ok {
			f, err := os.OpenFile(list[p.Disk].Path, mode, 0)
			if err != nil {
				return nil, err
			}
			open = append(open, f)
			place[p.Disk] = r.Disks
			r.Disks++
		}
		r.Pieces = append(r.Pieces, Piece{place[p.Disk], p.Start, p.Size})
	}
	request, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir = []string{joinName}, []string{}, "/"
	cmd.ExtraFiles = slices.Clone(open)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err == nil {
		// Not from our own thread: it would keep the mount name space that the volume is mounted in, and with it itself.
		started := make(chan error)
		go func() { started <- cmd.Start() }()
		err = <-started
	}
	if err != nil {
		return nil, err
	}
	v := &volumeFile{cmd: cmd}
	_, err = in.Write(request)
	if err = errors.Join(err, in.Close()); err == nil {
		_ = theirs.Close()
		v.File, err = receive(ours, mode)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, errors.Join(err, cmd.Wait())
	}
	return v, nil
}

// receive opens the file in the folder that comes over a socket.
func receive(socket *os.File, mode int) (*os.File, error) {
	conn, err := net.FileConn(socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(joinTime)) // sockets have deadlines
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("the process sent no folder"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("the process sent no folder"), err)
	}
	defer func() { _ = unix.Close(fds[0]) }()
	fd, err := unix.Openat(fds[0], fuse.Name(0), mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "volume"), nil
}

// wait waits until the kernel has let go of the file and all is written.
func (v *volumeFile) wait() error {
	timer := time.AfterFunc(joinTime, func() { _ = v.cmd.Process.Kill() })
	defer timer.Stop()
	if err := v.cmd.Wait(); err != nil {
		return fmt.Errorf("end of the process that showed a volume in pieces: %w", err)
	}
	return nil
}
