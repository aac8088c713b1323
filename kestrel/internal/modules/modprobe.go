// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/volantvm/volant/kestrel/internal/program"
)

const usage = `modprobe of kestrel: loads kernel modules from the disk that the host gives to every VM.

  modprobe [-qv] NAME [PARAMETER=VALUE ...]
  modprobe [-qv] -a NAME ...          several
  modprobe [-qv] -r NAME ...          take out
  modprobe -n NAME, -D NAME           show what would be done
`

// settings is what the command line asks for.
type settings struct {
	all, quiet, verbose, dryRun, show, remove, help bool

	names []string
}

// errUnknownOption: the image's own modprobe may know it.
var errUnknownOption = errors.New("unknown option")

// Main runs `modprobe ARGUMENTS` and returns its exit code.
func Main(arguments []string, stdout, stderr io.Writer) int {
	asked, err := parse(arguments)
	switch {
	case errors.Is(err, errUnknownOption):
		err = errors.Join(err, program.ExecImagesOwn("modprobe", arguments))
	case asked.help || (err == nil && len(asked.names) == 0):
		fmt.Fprint(stdout, usage)
		return map[bool]int{true: 0, false: 1}[asked.help]
	case err == nil:
		var folder string
		if folder, err = Mount(); err == nil {
			return asked.run(newLoader(folder), stdout, stderr)
		}
		if own := program.ExecImagesOwn("modprobe", arguments); own != nil && asked.quiet {
			return 1
		}
	}
	fmt.Fprintf(stderr, "modprobe: %v\n", err)
	return 1
}

// set notes an option; false: it is not known.
func (s *settings) set(option string) bool {
	switch option {
	case "a", "all":
		s.all = true
	case "q", "quiet":
		s.quiet = true
	case "v", "verbose":
		s.verbose = true
	case "n", "dry-run", "show":
		s.dryRun = true
	case "D", "show-depends":
		s.dryRun, s.show = true, true
	case "r", "remove":
		s.remove = true
	case "h", "help":
		s.help = true
	case "b", "use-blacklist", "i", "ignore-install", "s", "syslog", "first-time":
	default:
		return false
	}
	return true
}

func parse(arguments []string) (settings, error) {
	var asked settings
	for index, argument := range arguments {
		switch {
		case argument == "--":
			asked.names = append(asked.names, arguments[index+1:]...)
			return asked, nil
		case strings.HasPrefix(argument, "--"):
			if !asked.set(argument[2:]) {
				return asked, fmt.Errorf("%w %s", errUnknownOption, argument)
			}
		case strings.HasPrefix(argument, "-") && argument != "-":
			for _, letter := range argument[1:] {
				if !asked.set(string(letter)) {
					return asked, fmt.Errorf("%w -%c", errUnknownOption, letter)
				}
			}
		default:
			asked.names = append(asked.names, argument)
		}
	}
	return asked, nil
}

func (s settings) run(loader loader, stdout, stderr io.Writer) int {
	loader.dryRun = s.dryRun
	if s.verbose || s.show {
		loader.say = func(format string, arguments ...any) {
			fmt.Fprintln(stdout, strings.TrimSpace(fmt.Sprintf(format, arguments...)))
		}
	}
	if s.show {
		loader.isLoaded = func(string) bool { return false }
	}
	names, parameters := s.names, []string(nil)
	if !s.all && !s.remove {
		names, parameters = s.names[:1], s.names[1:]
	}
	code := 0
	for _, name := range names {
		if err := s.runOne(loader, name, parameters); err != nil {
			code = 1
			if !s.quiet || !errors.Is(err, errNotFound) {
				fmt.Fprintf(stderr, "modprobe: %s: %v\n", name, err)
			}
		}
	}
	return code
}

func (s settings) runOne(loader loader, name string, parameters []string) error {
	if name == "" {
		return errNotFound
	}
	if s.remove {
		return loader.unload(name)
	}
	return loader.load(name, parameters)
}
