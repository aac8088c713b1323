// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/health"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/nested"
	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// usualTerminal is what a terminal is called that nobody has given a name.
const usualTerminal = "xterm"

// prepareCommand makes the command of a process or of its check: with its user, folder and environment.
func (s *Supervisor) prepareCommand(sp spec, command string, arguments []string) (reaper.Command, error) {
	identity, err := program.FindIdentity(s.options.Root, sp.user, s.options.Workload.Groups...)
	if err != nil {
		return reaper.Command{}, fmt.Errorf("cannot start %s: %w", command, err)
	}
	environment, err := sp.finishEnvironment(s.environment(), identity.Account.Home)
	if err != nil {
		return reaper.Command{}, err
	}
	directory := sp.directory
	if directory == "" {
		directory = "/"
	}
	path, err := program.Find(command, environment, directory)
	if err != nil {
		return reaper.Command{}, err
	}
	return reaper.Command{
		Path:       path,
		Arguments:  append([]string{command}, arguments...),
		Env:        environment,
		Directory:  directory,
		Attributes: &syscall.SysProcAttr{Credential: identity.Credential},
	}, nil
}

// prepareCheck makes the command of a check, which looks at the workload from where that runs.
func (s *Supervisor) prepareCheck(sp spec, command string, arguments []string) (reaper.Command, error) {
	prepared, err := s.prepareCommand(sp, command, arguments)
	prepared.Inside = s.Place()
	return prepared, err
}

// Place is a descriptor of the init that runs in a place of its own, where there is one: sessions and checks enter it.
func (s *Supervisor) Place() *os.File {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, process := range s.processes {
		if process.place != nil {
			return process.place
		}
	}
	return nil
}

// openPlace notes the init that has just been started.
func (p *process) openPlace(child *reaper.Process) {
	descriptor, err := unix.PidfdOpen(child.PID(), 0)
	if err != nil { // it has ended already
		return
	}
	place := os.NewFile(uintptr(descriptor), "place of "+p.spec.name)
	p.update(func() { p.place = place })
}

func (p *process) closePlace() {
	var place *os.File
	p.update(func() { place, p.place = p.place, nil })
	if place != nil {
		_ = place.Close()
	}
}

// isNested: only the machine's process 1 can make such a place; elsewhere an init is a process like any other.
func (p *process) isNested() bool { return p.spec.init && os.Getpid() == 1 }

// launch starts the program. Begun is a moment before that: on a busy processor the child may run for a while
// before the agent does again.
func (p *process) launch(begun time.Time) (*reaper.Process, []*logs.Pipe, error) {
	s := p.supervisor
	command, err := s.prepareCommand(p.spec, p.spec.command[0], p.spec.command[1:])
	if err != nil {
		return nil, nil, err
	}
	if info, err := os.Stat(command.Directory); err != nil || !info.IsDir() {
		return nil, nil, fmt.Errorf("cannot start %s: its working directory %s does not exist", p.spec.name, command.Directory)
	}
	if p.spec.messagePath != "" {
		if err := offerMessage(p.spec.messagePath); err != nil {
			return nil, nil, fmt.Errorf("cannot start %s: no file for its last message: %w", p.spec.name, err)
		}
	}
	stdout, err := s.options.Logs.Pipe(p.spec.name, logs.Stdout)
	if err != nil {
		return nil, nil, err
	}
	stderr, err := s.options.Logs.Pipe(p.spec.name, logs.Stderr)
	if err != nil {
		_ = stdout.Write.Close()
		return nil, nil, err
	}
	if credential := command.Attributes.Credential; credential != nil && credential.Uid != 0 {
		// /dev/stdout is opened anew by path, with the rights of the pipe's owner.
		_ = stdout.Write.Chown(int(credential.Uid), int(credential.Gid))
		_ = stderr.Write.Chown(int(credential.Uid), int(credential.Gid))
	}
	command.Attributes.Setsid = true // a session and a group of its own, without a terminal
	if err := p.connect(&command, stdout.Write, stderr.Write); err != nil {
		return nil, nil, err
	}
	if p.cgroup.directory != nil {
		command.Attributes.UseCgroupFD, command.Attributes.CgroupFD = true, int(p.cgroup.directory.Fd())
	}
	if p.isNested() {
		if err := nested.Wrap(&command, p.cgroup.folder); err != nil {
			p.abandon()
			return nil, nil, err
		}
	}
	s.firstExec.Do(func() {
		if s.options.OnFirstExec != nil {
			s.options.OnFirstExec()
		}
	})
	child, err := s.options.Reaper.Start(command)
	if err != nil {
		p.abandon()
		return nil, nil, program.Explain(command.Path, err)
	}
	if p.joined != nil {
		p.joined.Begin()
	}
	s.options.Logs.Say("process %s started as pid %d", p.spec.name, child.PID())
	if p.isNested() {
		p.openPlace(child)
	}
	p.update(func() {
		p.move(contract.ProcessRunning, "")
		p.child, p.exit, p.message = child, nil, ""
		p.startedAt = begun
		p.ready, p.up = false, false
		if p.launches++; p.launches > 1 {
			p.restarts++
		}
	})
	return child, []*logs.Pipe{stdout, stderr}, nil
}

// connect gives a program its input and output: the pipes of its log, or what people are joined to.
func (p *process) connect(command *reaper.Command, stdout, stderr *os.File) error {
	if !p.spec.attached || p.isNested() {
		command.Files = []*os.File{nil, stdout, stderr}
		command.Release = []*os.File{stdout, stderr}
		return nil
	}
	var uid, gid int
	if credential := command.Attributes.Credential; credential != nil {
		uid, gid = int(credential.Uid), int(credential.Gid)
	}
	joined, err := p.supervisor.station.Prepare(stdout, stderr, uid, gid)
	if err != nil {
		return err
	}
	p.joined, command.Files, command.Release = joined, joined.Files, joined.Files
	if p.supervisor.options.Workload.Terminal {
		command.Attributes.Setctty, command.Attributes.Ctty = true, 0
		if program.Get(command.Env, "TERM") == "" {
			command.Env = append(command.Env, "TERM="+usualTerminal)
		}
	}
	return nil
}

// abandon lets go of what a program was to have that could not be started.
func (p *process) abandon() {
	if p.joined != nil {
		p.joined.Abandon()
		p.joined = nil
	}
}

// attend watches a running child until it has ended, by itself or because the context has.
func (p *process) attend(ctx context.Context, child *reaper.Process, begun time.Time) reaper.Status {
	for _, monitor := range p.monitors {
		monitor.Begin()
	}
	proven := time.NewTimer(upFor)
	defer proven.Stop()
	for {
		select {
		case <-proven.C:
			p.update(func() {
				p.up = true
				if len(p.monitors) == 0 && !p.spec.runOnce {
					p.ready, p.wasReady = true, true
				}
			})
		case <-child.Done():
			if next := p.followBackground(child, begun); next != nil {
				child = next
				continue
			}
			return p.finish(ctx, child)
		case <-ctx.Done():
			p.set(contract.ProcessRunning, "stopping")
			p.terminate(child)
			return p.finish(ctx, child)
		}
	}
}

// checkHealth is told by the monitors that something changed.
func (p *process) checkHealth() {
	healthy := !slices.ContainsFunc(p.monitors, func(monitor *health.Monitor) bool {
		state, _ := monitor.State()
		return state != contract.HealthHealthy
	})
	p.update(func() {
		if healthy && p.child != nil && !p.spec.runOnce {
			p.ready, p.wasReady, p.up = true, true, true
		}
	})
}
