// SPDX-License-Identifier: Apache-2.0

// Package journalctl answers `journalctl` in guests that have no journal: from kestrel's own logs.
//
// It takes the options that people type and that scripts use (journalctl(1)); those that make no difference here,
// such as --no-pager or -b, are accepted and do nothing.
package journalctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/program"
)

const usage = `journalctl of kestrel: shows what the processes of this guest and the agent itself have written.

  -u, --unit NAME      only this process; "kestrel" is the agent (may be given more than once)
  -f, --follow         go on with new lines
  -n, --lines N        the last N lines (10 with -f; "all")
  -S, --since TIME     from then on: "2026-01-31 15:04", "10 min ago", 1h, today
  -U, --until TIME     up to then
  -o, --output FORMAT  short, short-iso, short-precise, cat, json
  -r, --reverse        the newest line first
      --no-pager, -q, -a, -x, -b and the like are accepted and change nothing
`

// settings is what the command line asks for.
type settings struct {
	units         []string
	follow        bool
	lines         *int
	since, until  string
	output        string
	reverse, help bool
}

// formats are the outputs that are known, by whether they are JSON.
var formats = map[string]bool{
	"short": false, "short-iso": false, "short-precise": false, "short-full": false, "short-monotonic": false,
	"with-unit": false, "cat": false, "json": true, "json-pretty": true,
}

// journald's socket is there where systemd runs as the workload and keeps a journal of its own.
const journaldSocket = "/run/systemd/journal/socket"

// wantsJournald: with systemd as the workload the journal is its own, but for what the agent has said.
func wantsJournald(arguments []string) bool {
	if _, err := os.Stat(journaldSocket); err != nil {
		return false
	}
	asked, err := parse(arguments)
	return err != nil || len(asked.units) == 0 || slices.ContainsFunc(asked.units, func(unit string) bool {
		return unit != logs.AgentProcess
	})
}

// Main runs `journalctl ARGUMENTS` and returns its exit code. It may follow until it gets a signal.
func Main(arguments []string, stdout, stderr io.Writer) int {
	if wantsJournald(arguments) {
		_ = program.ExecImagesOwn("journalctl", arguments) // returns where there is none
	}
	directory := logs.DiskDirectory
	if _, err := os.Stat(logs.MemoryDirectory); err == nil { // the agent found no writable disk in this boot
		directory = logs.MemoryDirectory
	}
	return run(context.Background(), directory, arguments, stdout, stderr)
}

func run(ctx context.Context, directory string, arguments []string, stdout, stderr io.Writer) int {
	asked, err := parse(arguments)
	if err != nil {
		fmt.Fprintf(stderr, "journalctl: %v\n", err)
		return 1
	}
	if asked.help {
		fmt.Fprint(stdout, usage)
		return 0
	}
	printer := &printer{output: bufio.NewWriter(stdout), format: asked.output}
	if printer.hostname, err = os.Hostname(); err != nil {
		printer.hostname = "guest"
	}
	if asked.until != "" {
		until, err := logs.ParseSince(asked.until, time.Now())
		if err != nil {
			fmt.Fprintf(stderr, "journalctl: %v\n", err)
			return 1
		}
		printer.until = until
	}
	query := contract.LogQuery{
		Process: strings.Join(asked.units, ","), Since: asked.since, Tail: asked.lines, Follow: asked.follow,
	}
	emit := printer.print
	var kept []contract.LogEntry
	if asked.reverse {
		emit = func(entries []contract.LogEntry) error {
			kept = append(kept, entries...)
			return nil
		}
	}
	_, err = logs.ReadDirectory(ctx, directory, query, emit)
	if err == nil && asked.reverse {
		for index := len(kept) - 1; index >= 0 && err == nil; index-- {
			err = printer.print(kept[index : index+1])
		}
	}
	var failure *os.PathError
	switch {
	case errors.Is(err, errBroken):
		return 0 // `journalctl | head` has seen enough
	case errors.As(err, &failure) && errors.Is(err, os.ErrPermission):
		fmt.Fprintln(stderr, "journalctl: cannot read the logs: only root may")
		return 1
	case err != nil:
		fmt.Fprintf(stderr, "journalctl: %v\n", err)
		return 1
	}
	if printer.count == 0 && !formats[asked.output] {
		fmt.Fprintln(stdout, "-- No entries --")
	}
	return 0
}

// parse reads the command line: long options with = or a blank, short ones alone or in a row (-fu nginx, -n20).
func parse(arguments []string) (settings, error) {
	asked := settings{output: "short"}
	for len(arguments) > 0 {
		argument := arguments[0]
		arguments = arguments[1:]
		switch {
		case argument == "--":
		case strings.HasPrefix(argument, "--"):
			name, value, attached := strings.Cut(argument[2:], "=")
			letter, known := longOptions[name]
			if !known {
				return asked, fmt.Errorf("there is no option --%s; see journalctl --help", name)
			}
			if strings.ContainsRune(withValue, letter) && !attached {
				if len(arguments) == 0 {
					return asked, fmt.Errorf("the option --%s needs a value", name)
				}
				value, arguments = arguments[0], arguments[1:]
			}
			if err := asked.apply(letter, value); err != nil {
				return asked, err
			}
		case strings.HasPrefix(argument, "-") && len(argument) > 1:
			for rest := argument[1:]; rest != ""; {
				letter := rune(rest[0])
				rest = rest[1:]
				value := ""
				if strings.ContainsRune(withValue, letter) {
					value, rest = rest, ""
					optional := letter == 'n' && (len(arguments) == 0 || !isCount(arguments[0]))
					switch {
					case value != "" || optional:
					case len(arguments) == 0:
						return asked, fmt.Errorf("the option -%c needs a value", letter)
					default:
						value, arguments = arguments[0], arguments[1:]
					}
				}
				if err := asked.apply(letter, value); err != nil {
					return asked, err
				}
			}
		default:
			return asked, fmt.Errorf("cannot match %q: this journal knows processes only (-u NAME)", argument)
		}
	}
	if asked.follow && asked.lines == nil && asked.since == "" {
		ten := 10
		asked.lines = &ten
	}
	return asked, nil
}

// withValue are the short options that take one.
const withValue = "unSUoptc"

var longOptions = map[string]rune{
	"unit": 'u', "user-unit": 'u', "identifier": 't', "lines": 'n', "since": 'S', "until": 'U', "output": 'o',
	"follow": 'f', "reverse": 'r', "help": 'h', "pager-end": 'e', "no-pager": 'q', "quiet": 'q', "all": 'q',
	"catalog": 'q', "boot": 'q', "full": 'q', "no-full": 'q', "no-tail": 'N', "utc": 'q', "no-hostname": 'q',
	"system": 'q', "dmesg": 'q', "priority": 'p', "merge": 'q', "truncate-newline": 'q',
}

func (s *settings) apply(letter rune, value string) error {
	switch letter {
	case 'u', 't':
		s.units = append(s.units, strings.TrimSuffix(value, ".service"))
	case 'n':
		switch {
		case value == "all":
			s.lines = nil
		case value == "":
			ten := 10
			s.lines = &ten
		default:
			count, err := strconv.Atoi(strings.TrimPrefix(value, "+"))
			if err != nil || count < 0 {
				return fmt.Errorf("cannot read the number of lines %q", value)
			}
			s.lines = &count
		}
	case 'N':
		s.lines = nil
	case 'e':
		if s.lines == nil {
			thousand := 1000
			s.lines = &thousand
		}
	case 'S':
		s.since = value
	case 'U':
		s.until = value
	case 'o':
		if _, known := formats[value]; !known {
			return fmt.Errorf("there is no output format %q; known are short, short-iso, short-precise, cat and json", value)
		}
		s.output = value
	case 'f':
		s.follow = true
	case 'r':
		s.reverse = true
	case 'h':
		s.help = true
	case 'q', 'a', 'x', 'b', 'l', 'm', 'k', 'p', 'c':
	default:
		return fmt.Errorf("there is no option -%c; see journalctl --help", letter)
	}
	return nil
}

func isCount(text string) bool {
	_, err := strconv.Atoi(strings.TrimPrefix(text, "+"))
	return err == nil || text == "all"
}

// errBroken is the end of whoever reads the output.
var errBroken = errors.New("the reader of the output has gone")

type printer struct {
	output   *bufio.Writer
	format   string
	hostname string
	until    time.Time
	count    int
}

func (p *printer) print(entries []contract.LogEntry) error {
	for _, entry := range entries {
		when, err := time.Parse(time.RFC3339Nano, entry.Time)
		if err != nil || !p.until.IsZero() && when.After(p.until) {
			continue
		}
		p.count++
		p.printOne(entry, when.Local())
	}
	if p.output.Flush() != nil {
		return errBroken
	}
	return nil
}

func (p *printer) printOne(entry contract.LogEntry, when time.Time) {
	layout := "Jan 02 15:04:05"
	switch p.format {
	case "cat":
		fmt.Fprintln(p.output, entry.Line)
		return
	case "json", "json-pretty":
		p.printJSON(entry, when)
		return
	case "short-iso":
		layout = "2006-01-02T15:04:05-0700"
	case "short-precise":
		layout = "Jan 02 15:04:05.000000"
	case "short-full":
		layout = "Mon 2006-01-02 15:04:05 MST"
	}
	fmt.Fprintf(p.output, "%s %s %s: %s\n", when.Format(layout), p.hostname, entry.Process, entry.Line)
}

// printJSON uses the journal's own field names (systemd.journal-fields(7)).
func (p *printer) printJSON(entry contract.LogEntry, when time.Time) {
	priority := "6"
	if entry.Stream == "stderr" {
		priority = "4"
	}
	fields := map[string]string{
		"__CURSOR":             entry.Cursor,
		"__REALTIME_TIMESTAMP": strconv.FormatInt(when.UnixMicro(), 10),
		"MESSAGE":              entry.Line,
		"PRIORITY":             priority,
		"SYSLOG_IDENTIFIER":    entry.Process,
		"_SYSTEMD_UNIT":        entry.Process + ".service",
		"_HOSTNAME":            p.hostname,
		"_TRANSPORT":           "stdout",
		"KESTREL_STREAM":       entry.Stream,
	}
	encoder := json.NewEncoder(p.output)
	encoder.SetEscapeHTML(false)
	if p.format == "json-pretty" {
		encoder.SetIndent("", "\t")
	}
	_ = encoder.Encode(fields) // a broken output shows at Flush
}
