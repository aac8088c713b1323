// SPDX-License-Identifier: Apache-2.0

// Command kestrel is PID 1 of every Volant guest, and in it also journalctl, modprobe, socat and cloud-init-per.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/volantvm/volant/kestrel/internal/boot"
	"github.com/volantvm/volant/kestrel/internal/cloudinit"
	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/folders"
	"github.com/volantvm/volant/kestrel/internal/journalctl"
	"github.com/volantvm/volant/kestrel/internal/modules"
	"github.com/volantvm/volant/kestrel/internal/nested"
	"github.com/volantvm/volant/kestrel/internal/socat"
	"github.com/volantvm/volant/kestrel/internal/sshd"
	"github.com/volantvm/volant/kestrel/internal/standalone"
)

// exitNotAGuest is EX_CONFIG of sysexits.h: started where there is nothing to do for it.
const exitNotAGuest = 78

// version is the distribution's; a test holds it to pyproject.toml.
var version = "0.1.0"

func main() {
	switch {
	case startedByKernel():
		boot.Main(version)
	case filepath.Base(os.Args[0]) == "journalctl":
		os.Exit(journalctl.Main(os.Args[1:], os.Stdout, os.Stderr))
	case filepath.Base(os.Args[0]) == "modprobe":
		os.Exit(modules.Main(os.Args[1:], os.Stdout, os.Stderr))
	case filepath.Base(os.Args[0]) == "socat":
		os.Exit(socat.Main(os.Args[1:], os.Stdout, os.Stderr))
	case filepath.Base(os.Args[0]) == cloudinit.PerCommand:
		os.Exit(cloudinit.PerMain(os.Args[1:], os.Stdout, os.Stderr))
	case len(os.Args) > 1 && os.Args[1] == "check-config":
		os.Exit(config.CheckMain(os.Args[2:], os.Stdout, os.Stderr))
	case len(os.Args) > 1 && os.Args[1] == "supervise":
		os.Exit(standalone.Main(os.Args[2:], os.Stderr))
	case len(os.Args) > 1 && os.Args[1] == nested.Argument:
		os.Exit(nested.Main(os.Args[2:], os.Stderr))
	case len(os.Args) > 1 && os.Args[1] == folders.Argument:
		os.Exit(folders.Main(os.Args[2:], os.Stderr))
	case len(os.Args) > 1 && os.Args[1] == sshd.SFTPServerArgument:
		if err := sshd.ServeSFTPOnStdio(); err != nil {
			fmt.Fprintln(os.Stderr, "kestrel: "+err.Error())
			os.Exit(1)
		}
	case len(os.Args) > 1 && (os.Args[1] == "version" || os.Args[1] == "--version"):
		fmt.Println("kestrel " + version)
	default:
		fmt.Fprintln(os.Stderr, "kestrel: this is the agent of Volant guests and runs as PID 1 of a virtual machine only: nothing done")
		os.Exit(exitNotAGuest)
	}
}

// startedByKernel: PID 1 of a machine is /init of the boot archive, and nothing has mounted /proc yet; in a container
// somebody has.
func startedByKernel() bool {
	if os.Getpid() != 1 || os.Args[0] != "/init" {
		return false
	}
	_, err := os.Stat("/proc/self")
	return err != nil
}
