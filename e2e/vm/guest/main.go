// Command guest is what the harness of package vm puts into its machines, and what carries connections out of them:
//
//	guest serve                   in the machine: answer the test over the virtio-serial port (package channel)
//	guest forward LISTEN TARGET   in the machine: carry TCP connections from one of its addresses to another
//	guest dial TARGET             on the host, started by QEMU for each connection that the machine makes to its one
//	                              address outside: carry standard input and output to TARGET
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/openmigrate/openmigrate/e2e/vm/channel"
)

// again is the pause between looks at something that is not there yet.
const again = 50 * time.Millisecond

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve("/dev/virtio-ports/" + channel.PortName)
	case len(args) == 3 && args[0] == "forward":
		return forward(args[1], args[2])
	case len(args) == 2 && args[0] == "dial":
		conn, err := dial(args[1])
		if err != nil {
			return err
		}
		carry(conn, os.Stdin, os.Stdout, func() {})
		return nil
	}
	return errors.New("usage: guest serve | forward LISTEN TARGET | dial TARGET")
}

// serve opens the port once the kernel has it and answers for ever. While no test is connected the port reads as ended.
func serve(path string) error {
	var port *os.File
	for {
		var err error
		if port, err = os.OpenFile(path, os.O_RDWR, 0); err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		time.Sleep(again)
	}
	defer port.Close()
	for {
		if err := channel.Serve(port); err != nil {
			return err
		}
		time.Sleep(again)
	}
}

func forward(listen, target string) error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", listen)
	if err != nil {
		return err
	}
	for {
		in, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = in.Close() }()
			out, err := dial(target)
			if err != nil {
				fmt.Fprintln(os.Stderr, "guest:", err)
				return
			}
			carry(out, in, in, func() { _ = in.(*net.TCPConn).CloseWrite() })
		}()
	}
}

func dial(target string) (*net.TCPConn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// carry copies both ways until conn's peer has ended; ended is called then.
func carry(conn *net.TCPConn, in io.Reader, out io.Writer, ended func()) {
	defer func() { _ = conn.Close() }()
	go func() {
		_, _ = io.Copy(conn, in)
		_ = conn.CloseWrite()
	}()
	_, _ = io.Copy(out, conn)
	ended()
}
