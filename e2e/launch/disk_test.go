package launch

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
)

// ready is what the machine says when it is up.
const ready = "Debian GNU/Linux 12 " + machine + " ttyS0\n\n" + machine + " login: "

// bootTicks is how long the machine takes to start, in ticks of the PC's timer, of which there are 18.2 in a second: long enough to be killed meanwhile.
const bootTicks = 50

// sector is a boot sector that waits and then writes text to the first serial port.
func sector(ticks uint16, text string) []byte {
	code := []byte{
		0x31, 0xc0, 0x8e, 0xd8, 0xfc, // ds = 0, cld
		0xfb, 0xb9, 0, 0, // sti; mov cx, ticks
		0xf4, 0xe2, 0xfd, // hlt; loop to it
		0xbe, 0, 0x7c, // mov si, text
		0xba, 0xf8, 0x03, // mov dx, COM1
		0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, // lodsb; test al; jz end; out; jmp
		0xf4, 0xeb, 0xfd, // hlt; jmp to it
	}
	binary.LittleEndian.PutUint16(code[7:], ticks)
	code[13] = byte(len(code))
	return append(append(code, text...), 0)
}

// system is a small machine whose conversion takes some seconds.
func system(t *testing.T) *converttest.Machine {
	t.Helper()
	m := converttest.New(t)
	m.Files["usr/sbin/mkinitramfs"] = "#!/bin/sh\nset -e\nsleep 3\ncat /prepared >\"$2\"\n"
	return m
}

// bootable makes a machine's disk with something to copy, that says that it is up.
func bootable(t *testing.T, m *converttest.Machine) string {
	t.Helper()
	b := make([]byte, 8<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(b) // never fails
	m.Files["var/data"] = string(b)
	path := m.Disk()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The word GRUB, which conversion looks for, is behind it, and the partition table at 440.
	code := sector(bootTicks, ready)
	if len(code) > 100 {
		t.Fatalf("the boot sector has %d bytes", len(code))
	}
	if _, err := f.WriteAt(code, 0); err != nil {
		t.Fatal(err)
	}
	return path
}
