// Command image prints where the disk of a small Debian is, which starts from BIOS and from UEFI, and makes it when the cache has none (as root). Nobody may write to it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/openmigrate/openmigrate/e2e/vm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	image, err := vm.Make(ctx, vm.Recipe{}, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Println(image.Path)
}
