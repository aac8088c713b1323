// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"

	"github.com/volantvm/volant/kestrel/internal/folders"
)

// MountFolders mounts the host's folders, before anything that may want them is started. Without them a guest does not
// boot: its workload would write into the folder below, where nobody looks for it.
func (g *Guest) MountFolders() error {
	wanted := g.config.Folders
	if wanted == nil || len(wanted.Mounts) == 0 {
		return nil
	}
	disks := make([]string, 0, len(g.config.Mounts))
	for _, each := range g.config.Mounts {
		disks = append(disks, each.Target)
	}
	process, err := folders.Mount(wanted, g.supervisor.Owner(), disks, g.children)
	if err != nil {
		return err
	}
	g.freezer.Spared = process.PID()
	go func() {
		if status := process.Wait(); g.life.Err() == nil {
			g.journal.Warn(fmt.Sprintf("the folders of the host are gone: what serves them has ended (%v)", status))
		}
	}()
	return nil
}

// stopWorkload stops all processes, and has what they wrote to the host's folders get there.
func (g *Guest) stopWorkload(ctx context.Context) {
	g.supervisor.Stop(ctx)
	if wanted := g.config.Folders; wanted != nil {
		targets := make([]string, 0, len(wanted.Mounts))
		for _, each := range wanted.Mounts {
			targets = append(targets, each.Target)
		}
		folders.Flush(targets)
	}
}
