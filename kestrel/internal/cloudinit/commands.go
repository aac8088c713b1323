// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	shellPath = "/bin/sh"
	killDelay = 5 * time.Second
	// Output that a background process of a script keeps open is not waited for longer than this.
	lingerTimeout = 300 * time.Millisecond
)

func (r *Runner) runBootcmd(ctx context.Context, config fields) error {
	return r.runCommands(ctx, "bootcmd", config["bootcmd"])
}

// runCommands runs a list of commands. With a shell they make one script, as upstream does it, so that a cd or a
// variable of one is there for the next and a failing one does not keep the next from running. Without a shell the
// list form still works; the string form cannot.
func (r *Runner) runCommands(ctx context.Context, module string, value any) error {
	items, ok := value.([]any)
	if !ok {
		return fmt.Errorf("it is a list of commands, not %T", value)
	}
	var problems []error
	if _, err := os.Stat(r.path(shellPath)); err == nil {
		script, err := makeScript(items)
		if err != nil {
			return err
		}
		return r.runScript(ctx, module, []byte(script))
	}
	for index, item := range items {
		list, ok := item.([]any)
		if !ok {
			if item != nil {
				problems = append(problems, fmt.Errorf(
					"command %d is a string, which needs %s, and this image has none: write it as a list", index+1, shellPath))
			}
			continue
		}
		arguments, err := asTexts(list)
		if err == nil && len(arguments) > 0 {
			err = r.options.RunProgram(ctx, module, arguments)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("command %d: %w", index+1, err))
		}
	}
	return errors.Join(problems...)
}

// makeScript is upstream's util.shellify: lists are quoted, strings are the shell's.
func makeScript(items []any) (string, error) {
	var script strings.Builder
	script.WriteString("#!" + shellPath + "\n")
	for index, item := range items {
		switch item := item.(type) {
		case nil:
		case string:
			script.WriteString(item + "\n")
		case []any:
			arguments, err := asTexts(item)
			if err != nil {
				return "", fmt.Errorf("command %d: %w", index+1, err)
			}
			for position, argument := range arguments {
				if position > 0 {
					script.WriteByte(' ')
				}
				script.WriteString("'" + strings.ReplaceAll(argument, "'", `'\''`) + "'")
			}
			script.WriteByte('\n')
		default:
			return "", fmt.Errorf("command %d is neither a list nor a string: quote it (a colon makes it a mapping)", index+1)
		}
	}
	return script.String(), nil
}

// runScript keeps a script where a person can look at it and runs it as a program, so that its first line decides.
func (r *Runner) runScript(ctx context.Context, name string, content []byte) error {
	folder := filepath.Join(r.instanceFolder(), "scripts")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot keep the script: %w", err)
	}
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, content, 0o700); err != nil {
		return fmt.Errorf("cannot keep the script: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("cannot keep the script: %w", err)
	}
	err := r.options.RunProgram(ctx, name, []string{path})
	if errors.Is(err, fs.ErrNotExist) {
		line, _, _ := strings.Cut(string(content), "\n")
		return fmt.Errorf("its interpreter is missing in this image: %s", strings.TrimPrefix(line, "#!"))
	}
	if errors.Is(err, syscall.ETXTBSY) { // another start forked while the file was open for writing
		return r.options.RunProgram(ctx, name, []string{path})
	}
	return err
}

// runProgram runs one program as root and logs what it prints. At the end of the context it is ended with its group.
func (r *Runner) runProgram(ctx context.Context, name string, arguments []string, extra ...string) error {
	env := r.commandEnvironment(extra)
	path, err := r.findProgram(arguments[0], env)
	if err != nil {
		return err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", arguments[0], err)
	}
	defer reader.Close()
	process, err := r.options.Reaper.Start(reaper.Command{
		Path:       path,
		Arguments:  arguments,
		Env:        env,
		Directory:  "/",
		Files:      []*os.File{nil, writer, writer},
		Attributes: &syscall.SysProcAttr{Setsid: true},
	})
	_ = writer.Close()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", arguments[0], err)
	}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		lines := bufio.NewReaderSize(reader, 4096)
		for {
			line, _, err := lines.ReadLine()
			if err != nil {
				return
			}
			r.options.Logf("cloud-init: %s: %s", name, line)
		}
	}()
	select {
	case <-process.Done():
	case <-ctx.Done():
		_ = process.SignalGroup(unix.SIGTERM)
		select {
		case <-process.Done():
		case <-time.After(killDelay):
			_ = process.SignalGroup(unix.SIGKILL)
		}
	}
	status := process.Wait()
	_ = reader.SetReadDeadline(time.Now().Add(lingerTimeout))
	<-logged
	if !status.Success() {
		return fmt.Errorf("%s %s", filepath.Base(arguments[0]), status)
	}
	return nil
}

func (r *Runner) commandEnvironment(extra []string) []string {
	least := []string{"PATH=" + contract.BinFolder + ":" + contract.DefaultPath}
	own := []string{"HOME=/root", "INSTANCE_ID=" + r.options.Documents.InstanceID}
	return program.Merge(least, r.options.Environment(), own, extra)
}

// findProgram looks a program up in the PATH of the commands, not of the agent.
func (r *Runner) findProgram(name string, env []string) (string, error) {
	if strings.Contains(name, "/") { // what is wrong with it shows when it is started
		return name, nil
	}
	return program.Find(name, env, "/")
}
