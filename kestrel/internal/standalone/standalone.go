// SPDX-License-Identifier: Apache-2.0

// Package standalone runs the supervision half of the agent outside of a guest: `kestrel supervise`. It exists for the
// bench, which compares it with other supervisors on one machine, and it touches nothing but its log folder.
package standalone

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/reaper"
	"github.com/volantvm/volant/kestrel/internal/supervise"
)

const usage = "usage: kestrel supervise --config FILE --log-dir DIR [--log-bytes N]"

// Main runs until SIGTERM or SIGINT and returns the exit code.
func Main(arguments []string, stderr io.Writer) int {
	values := map[string]string{"--config": "", "--log-dir": "", "--log-bytes": "0"}
	for len(arguments) > 0 {
		if _, known := values[arguments[0]]; !known || len(arguments) < 2 {
			fmt.Fprintln(stderr, usage)
			return 2
		}
		values[arguments[0]] = arguments[1]
		arguments = arguments[2:]
	}
	logBytes, err := strconv.ParseInt(values["--log-bytes"], 10, 64)
	if err != nil || values["--config"] == "" || values["--log-dir"] == "" {
		fmt.Fprintln(stderr, usage)
		return 2
	}
	if err := run(values["--config"], values["--log-dir"], logBytes); err != nil {
		fmt.Fprintf(stderr, "kestrel supervise: %v\n", err)
		return 1
	}
	return 0
}

func run(config, logFolder string, logBytes int64) error {
	debug.SetGCPercent(50)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGTERM, unix.SIGINT)
	children, err := reaper.Start()
	if err != nil {
		return err
	}
	defer children.Close()
	store, err := logs.Open(logs.Options{Directories: []string{logFolder}, ProcessBytes: logBytes, TotalBytes: 2 * logBytes})
	if err != nil {
		return err
	}
	defer store.Close()
	supervisor := supervise.New(supervise.Options{
		Reaper: children, Logs: store, ConfigPath: config, EnvironmentPath: os.DevNull,
		Image: contract.ImageConfig{Env: os.Environ()},
	})
	supervisor.Start()
	debug.FreeOSMemory() // the config's tree
	<-ended
	ctx, cancel := context.WithTimeout(context.Background(), supervisor.StopDeadline())
	defer cancel()
	supervisor.Stop(ctx)
	return nil
}
