// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// PerCommand is upstream's little program by which boot hooks and bootcmd run something less often than they run
// themselves. The agent answers to its name where the image has none.
const PerCommand = "cloud-init-per"

const perUsage = `Usage: cloud-init-per FREQUENCY NAME COMMAND [ARGUMENT...]

Runs COMMAND unless it has been run under NAME before.
FREQUENCY: once (on this disk), instance (for this instance), always.
`

// defaultStateFolder remembers what was done for which instance.
const defaultStateFolder = "/var/lib/kestrel/cloud-init"

// instanceFile, in the state folder, holds the id of the instance that the disk belongs to now.
const instanceFile = "instance"

// PerMain is cloud-init-per: its exit code is the command's.
func PerMain(arguments []string, stdout, stderr io.Writer) int {
	run := func(command []string) int { return runPerCommand(command, stdout, stderr) }
	return runPer(defaultStateFolder, arguments, run, stdout, stderr)
}

func runPer(stateFolder string, arguments []string, run func(command []string) int, stdout, stderr io.Writer) int {
	if len(arguments) > 0 && (arguments[0] == "-h" || arguments[0] == "--help") {
		fmt.Fprint(stdout, perUsage)
		return 0
	}
	if len(arguments) < 3 {
		fmt.Fprint(stderr, perUsage)
		return 1
	}
	marker, err := perMarker(stateFolder, arguments[0], arguments[1])
	if err != nil {
		fmt.Fprintf(stderr, "cloud-init-per: %v\n", err)
		return 1
	}
	if _, err := os.Stat(marker); err == nil && arguments[0] != "always" {
		return 0
	}
	code := run(arguments[2:])
	line := fmt.Sprintf("%d\t%d\n", code, time.Now().Unix())
	err = os.MkdirAll(filepath.Dir(marker), 0o700)
	if err == nil {
		err = os.WriteFile(marker, []byte(line), 0o600)
	}
	if err != nil {
		fmt.Fprintf(stderr, "cloud-init-per: cannot remember that %s has run: %v\n", arguments[1], err)
		return 1
	}
	return code
}

// perMarker is the file that says that a name's command has been run.
func perMarker(stateFolder, frequency, name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("cannot take %q for a name: it holds a slash or nothing", name)
	}
	file := "per." + strings.ReplaceAll(name, "-", "_") + "." + frequency
	switch frequency {
	case "once", "always":
		return filepath.Join(stateFolder, file), nil
	case "instance":
		id := readText(filepath.Join(stateFolder, instanceFile))
		if id == "" {
			return "", errors.New("cannot tell the instance: this VM has no user-data")
		}
		return filepath.Join(instanceFolder(stateFolder, id), file), nil
	}
	return "", fmt.Errorf("cannot run it %q: the frequency is once, instance or always", frequency)
}

func runPerCommand(arguments []string, stdout, stderr io.Writer) int {
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, stdout, stderr
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	}
	fmt.Fprintf(stderr, "cloud-init-per: cannot run %s: %v\n", arguments[0], err)
	return 127
}

// offerPerCommand puts cloud-init-per on the PATH of commands and remembers the instance for it.
func (r *Runner) offerPerCommand() {
	folder := r.path(contract.BinFolder)
	err := os.MkdirAll(folder, 0o755)
	if err == nil {
		err = os.Symlink(contract.RunningAgent, filepath.Join(folder, PerCommand))
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		r.options.Logf("cloud-init: there will be no %s: %v", PerCommand, err)
	}
	err = os.MkdirAll(r.options.StateFolder, 0o700)
	if err == nil {
		err = replaceFile(filepath.Join(r.options.StateFolder, instanceFile), []byte(r.options.Documents.InstanceID+"\n"), 0o600)
	}
	if err != nil {
		r.options.Logf("cloud-init: %s cannot tell the instance: %v", PerCommand, err)
	}
}
