// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupRoot is where the guest's cgroup2 hierarchy is mounted.
const cgroupRoot = "/sys/fs/cgroup"

// cgroup is the control group of one process: it tells for sure what comes from it, whatever session it has moved to.
// The zero value is none, where the kernel or the machine has no cgroup2 of our own.
type cgroup struct {
	folder    string
	directory *os.File // new processes are started into it
}

// openCgroup makes the group of a process. Only PID 1 does: outside of a guest the hierarchy is somebody else's.
func openCgroup(name string) cgroup {
	if os.Getpid() != 1 {
		return cgroup{}
	}
	return openCgroupIn(cgroupRoot, name)
}

func openCgroupIn(root, name string) cgroup {
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		return cgroup{}
	}
	folder := filepath.Join(root, "kestrel", "process."+name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return cgroup{}
	}
	directory, err := os.Open(folder)
	if err != nil {
		return cgroup{}
	}
	return cgroup{folder, directory}
}

func (c *cgroup) close() {
	if c.directory != nil {
		_ = c.directory.Close()
		_ = os.Remove(c.folder) // stays if something is left in it
		*c = cgroup{}
	}
}

// members lists the processes in the group.
func (c *cgroup) members() []int {
	if c.directory == nil {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(c.folder, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, text := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(text); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill ends everything in the group at once (Linux 5.14 and later; older ones keep what left its process group).
func (c *cgroup) kill() {
	if c.directory != nil {
		_ = os.WriteFile(filepath.Join(c.folder, "cgroup.kill"), []byte("1"), 0)
	}
}
