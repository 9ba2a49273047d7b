package convert

import (
	"debug/elf"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// readArch finds the processor that the system's programs are for.
func readArch(t *tree.Tree) string {
	for _, name := range []string{"/sbin/init", "/bin/sh", "/bin/bash", "/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		f, err := t.Open(name)
		if err != nil {
			continue
		}
		// The first bytes say it; debug/elf would read all that a hostile file announces.
		b := make([]byte, 20)
		_, err = f.ReadAt(b, 0)
		f.Close()
		if err != nil || string(b[:4]) != elf.ELFMAG {
			continue
		}
		machine := elf.Machine(b[18]) | elf.Machine(b[19])<<8
		if elf.Data(b[5]) == elf.ELFDATA2MSB {
			machine = elf.Machine(b[19]) | elf.Machine(b[18])<<8
		}
		switch {
		case machine == elf.EM_X86_64:
			return "amd64"
		case machine == elf.EM_386:
			return "386"
		case machine == elf.EM_AARCH64:
			return "arm64"
		case machine == elf.EM_S390:
			return "s390x"
		case machine == elf.EM_PPC64 && elf.Data(b[5]) == elf.ELFDATA2LSB:
			return "ppc64le"
		case machine == elf.EM_RISCV:
			return "riscv64"
		}
		return machine.String()
	}
	return ""
}
