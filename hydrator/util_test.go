package hydrator

import "golang.org/x/sys/unix"

// allocated is how many bytes of disk a file takes.
func allocated(path string) (int64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st.Blocks * 512, err
}
