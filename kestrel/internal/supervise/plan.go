// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/nested"
	"github.com/volantvm/volant/kestrel/internal/program"
)

// defaultName is the process that runs the image's own command.
const defaultName = "workload"

// hostVsockCID is the host's (VMADDR_CID_HOST).
const hostVsockCID = 2

// spec is one process with everything decided that does not change from start to start.
type spec struct {
	name        string
	command     []string
	variables   []config.Variable
	directory   string
	user        string
	dependsOn   []string
	runOnce     bool
	init        bool // process 1 of a place of its own (nested)
	attached    bool // people are joined to its input and output
	restart     config.Restart
	backoff     time.Duration
	stopSignal  unix.Signal
	stopTimeout time.Duration
	vsock       *vsockAddress
	checks      []config.Check
	messagePath string // where it may leave what is told of its end; empty: nowhere
}

type vsockAddress struct{ cid, port uint32 }

// makeSpecs decides what runs: the entries of the config, or the one command of manifest or image.
func makeSpecs(
	settings *config.Config, image contract.ImageConfig, workload contract.Workload, root string,
) ([]spec, error) {
	stopSignal, err := chooseStopSignal(workload.StopSignal, image.StopSignal)
	if err != nil {
		return nil, err
	}
	base := spec{
		directory:  firstText(workload.Workdir, image.WorkingDir),
		user:       firstText(workload.User, image.User),
		restart:    config.RestartOnFailure,
		backoff:    config.DefaultBackoff,
		stopSignal: stopSignal,
	}
	if workload.Type == "batch" || workload.RunOnce && len(settings.Exec) == 0 {
		base.restart = config.RestartNever // its exit code is the result, not a reason to try again
	}
	if workload.Always && !workload.EndsWithProcesses() && len(settings.Exec) == 0 {
		base.restart = config.RestartAlways
	}
	if len(settings.Exec) > 0 {
		if len(workload.Command) > 0 {
			return nil, fmt.Errorf("cannot run %q: this image's /etc/kestrel/config.yaml says what runs", workload.Command)
		}
		isAttached := workload.Stdin || workload.Terminal
		if isAttached && len(settings.Exec) > 1 {
			return nil, errors.New("cannot give the workload an input or a terminal: this image's /etc/kestrel/config.yaml has several processes")
		}
		specs := make([]spec, 0, len(settings.Exec))
		for _, entry := range settings.Exec {
			made := makeSpec(base, entry, settings.Exec)
			made.attached = isAttached
			made.finish(root, entry.Init, firstTimeout(entry.StopTimeout, workload.StopTimeoutSeconds))
			specs = append(specs, made)
		}
		return specs, nil
	}
	command := workload.Entrypoint
	switch {
	case len(command) > 0 && len(workload.Command) > 0:
		command = workload.Command
	case len(workload.Command) > 0:
		command = slices.Concat(image.Entrypoint, workload.Command)
	case len(command) == 0:
		command = slices.Concat(image.Entrypoint, image.Cmd)
	}
	if len(command) == 0 {
		return nil, errors.New("nothing to run: there is no /etc/kestrel/config.yaml with exec entries, and neither " +
			"the manifest (workload.entrypoint) nor the image (ENTRYPOINT, CMD) names a command")
	}
	base.name, base.command, base.messagePath = defaultName, command, workload.MessagePath
	base.attached = workload.Stdin || workload.Terminal
	base.finish(root, nil, firstTimeout(nil, workload.StopTimeoutSeconds))
	return []spec{base}, nil
}

// chooseStopSignal returns the VM's own signal, else the image's; 0: neither says one.
func chooseStopSignal(own, image string) (unix.Signal, error) {
	for _, choice := range []struct{ name, of string }{{own, "the stop signal of this VM"}, {image, "the image's STOPSIGNAL"}} {
		if choice.name == "" {
			continue
		}
		number, err := config.ParseSignal(choice.name)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", choice.of, err)
		}
		return number, nil
	}
	return 0, nil
}

// firstTimeout is an entry's own, else the VM's; nil: the default.
func firstTimeout(entry *time.Duration, seconds *float64) *time.Duration {
	if entry != nil || seconds == nil {
		return entry
	}
	return new(time.Duration(*seconds * float64(time.Second)))
}

func makeSpec(base spec, entry config.Exec, all []config.Exec) spec {
	s := base
	s.name = entry.Name
	s.command = append([]string{entry.Command}, entry.Args...)
	s.variables = entry.Env
	s.dependsOn = entry.DependsOn
	s.checks = entry.Health
	s.backoff = entry.Backoff
	if entry.WorkingDir != "" {
		s.directory = entry.WorkingDir
	}
	if entry.User != "" {
		s.user = entry.User
	}
	if entry.StopSignal != 0 {
		s.stopSignal = entry.StopSignal
	}
	if entry.VsockPort != nil {
		s.vsock = &vsockAddress{hostVsockCID, *entry.VsockPort}
		if entry.VsockCID != nil {
			s.vsock.cid = *entry.VsockCID
		}
	}
	if entry.RunOnce != nil {
		s.runOnce = *entry.RunOnce
	} else {
		// An entry that fetches something over vsock for others is a one-shot unless it says otherwise.
		s.runOnce = s.vsock != nil && slices.ContainsFunc(all, func(other config.Exec) bool {
			return slices.Contains(other.DependsOn, entry.Name)
		})
	}
	switch {
	case entry.Restart != "":
		s.restart = entry.Restart
	case s.runOnce:
		s.restart = config.RestartNever // its failure is told to those that wait for it
	}
	return s
}

// finish decides whether the process is an init, and with that how it is stopped.
func (sp *spec) finish(root string, init *bool, stopTimeout *time.Duration) {
	sp.init = !sp.runOnce && nested.WantsProcess1(root, sp.command[0])
	if init != nil {
		sp.init = *init
	}
	sp.stopTimeout = config.DefaultStopTimeout
	if sp.init {
		sp.stopTimeout = nested.StopTimeout
	}
	if stopTimeout != nil {
		sp.stopTimeout = *stopTimeout
	}
	switch {
	case sp.stopSignal != 0:
	case sp.init:
		sp.stopSignal = nested.StopSignal(root, sp.command[0])
	default:
		sp.stopSignal = unix.SIGTERM
	}
}

// environment merges all that a process gets. It is read anew for every start: cloud-init may have written.
func (s *Supervisor) environment() []string {
	s.mutex.Lock()
	workload := s.workloadEnv
	s.mutex.Unlock()
	names := make([]string, 0, len(workload))
	for name := range workload {
		names = append(names, name)
	}
	slices.Sort(names)
	manifest := make([]string, 0, len(names))
	for _, name := range names {
		manifest = append(manifest, name+"="+workload[name])
	}
	var lowest []string
	if hostname, err := os.Hostname(); err == nil {
		lowest = []string{"HOSTNAME=" + hostname}
	}
	return program.Merge(lowest, s.options.Image.Env, manifest, program.ReadEnvironmentFile(s.options.EnvironmentPath))
}

// finishEnvironment adds what an entry says itself.
func (sp spec) finishEnvironment(base []string, home string) ([]string, error) {
	var own []string
	for _, variable := range sp.variables {
		if !variable.FromEnv {
			own = append(own, variable.Name+"="+variable.Value)
			continue
		}
		if !slices.ContainsFunc(base, func(entry string) bool {
			return len(entry) > len(variable.Name) && entry[:len(variable.Name)+1] == variable.Name+"="
		}) {
			return nil, fmt.Errorf("cannot start %s: its variable %s is to come from the VM's environment, which has none "+
				"of that name (image, manifest, /etc/environment)", sp.name, variable.Name)
		}
	}
	if sp.vsock != nil {
		own = append(own, "VSOCK_CID="+strconv.FormatUint(uint64(sp.vsock.cid), 10),
			"VSOCK_PORT="+strconv.FormatUint(uint64(sp.vsock.port), 10))
	}
	return program.LeadPath(program.Merge([]string{"HOME=" + home}, base, own)), nil
}

func firstText(first *string, second string) string {
	if first != nil && *first != "" {
		return *first
	}
	return second
}
