// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"golang.org/x/sys/unix"
)

const (
	maxBytes  = 1 << 20
	maxPeriod = 24 * time.Hour
)

// namePattern is what a process may be called; the name is part of file names and of `journalctl -u NAME`. Patterns
// are compiled when first needed: most boots do without, and would pay ten milliseconds each under emulation.
var namePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`) })

var variablePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`) })

// reservedNames are those of the agent's own logs.
var reservedNames = []string{"kestrel", "cloud-init", "pre_start", "post_stop"}

// Parse reads a configuration. The config is valid only if there are no problems.
func Parse(file string, data []byte) (config *Config, problems []Problem) {
	d := &decoder{file: file, anchors: make(map[string]ast.Node)}
	if len(data) > maxBytes {
		d.problem(nil, "make it smaller", "the file is larger than %d bytes", maxBytes)
		return nil, d.problems
	}
	root, ok := d.parseYAML(data)
	if !ok {
		return nil, d.problems
	}
	config = d.config(root)
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return config, d.problems
}

// parseYAML returns the document's tree; nil for an empty one.
func (d *decoder) parseYAML(data []byte) (root ast.Node, ok bool) {
	defer func() {
		if failure := recover(); failure != nil { // a bug of the YAML library must not end PID 1
			d.problem(nil, "check it with another YAML tool", "the file is not valid YAML (%v)", failure)
			ok = false
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		message, at := err.Error(), (*token.Token)(nil)
		var located interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &located) {
			message, at = located.GetMessage(), located.GetToken()
		}
		d.problem(at, "mend the YAML at this place; mind the indentation", "the file is not valid YAML: %s", message)
		return nil, false
	}
	for index, document := range file.Docs {
		if document == nil || document.Body == nil {
			continue
		}
		if index > 0 && root != nil {
			d.problem(document.Body.GetToken(), "keep one document and remove '---'", "the file holds more than one document")
			return nil, false
		}
		root = document.Body
	}
	if root != nil {
		ast.Walk(d, root)
		if _, comment := root.(*ast.CommentGroupNode); comment {
			root = nil
		}
	}
	return d.resolve(root), true
}

func (d *decoder) config(root ast.Node) *Config {
	config := &Config{Hooks: Hooks{Timeout: DefaultHookTimeout}}
	if root == nil {
		return config
	}
	fields, ok := d.fields(root, nil, "the config", "exec", "health", "hooks")
	if !ok {
		return config
	}
	places := make(map[string]*token.Token)
	for index, node := range d.list(fields["exec"], "exec") {
		if entry, at, ok := d.exec(d.resolve(node), place(node, fields["exec"].key), index); ok {
			if _, twice := places[entry.Name]; twice {
				d.problem(at, "give each entry a name of its own", "the name %q is used twice", entry.Name)
				continue
			}
			places[entry.Name] = at
			config.Exec = append(config.Exec, entry)
		}
	}
	d.checkDependencies(config.Exec, places)
	if health, given := fields["health"]; given {
		config.Health = d.checks(health, "health")
	}
	if hooks, given := fields["hooks"]; given && hooks.value != nil {
		config.Hooks = d.hooks(hooks)
	}
	return config
}

func (d *decoder) exec(node ast.Node, at *token.Token, index int) (Exec, *token.Token, bool) {
	what := fmt.Sprintf("exec[%d]", index)
	fields, ok := d.fields(node, at, what, "name", "command", "args", "env", "working_dir", "user", "depends_on",
		"run_once", "init", "restart", "backoff", "stop_signal", "stop_timeout", "vsock_cid", "vsock_port", "health")
	if !ok {
		return Exec{}, at, false
	}
	entry := Exec{Backoff: DefaultBackoff}
	known := len(d.problems)
	if name, given := fields["name"]; given {
		at = place(name.value, name.key)
		entry.Name, ok = d.text(name, what+".name")
		switch {
		case !ok:
		case !namePattern().MatchString(entry.Name):
			d.problem(at, "use letters, digits, '.', '_' and '-', at most 63", "%q cannot be the name of a process", entry.Name)
		case slices.Contains(reservedNames, entry.Name):
			d.problem(at, "choose another name", "the name %q is the agent's own", entry.Name)
		default:
			what = fmt.Sprintf("exec %q", entry.Name)
		}
	} else {
		d.problem(at, "add 'name: …'", "%s has no name", what)
	}
	if command, given := fields["command"]; given {
		entry.Command, ok = d.text(command, what+".command")
		if ok && entry.Command == "" {
			d.problem(command.key, "name a program", "%s has an empty command", what)
		}
	} else {
		d.problem(at, "add 'command: /path/to/program'", "%s has no command", what)
	}
	entry.Args = d.texts(fields["args"], what+".args")
	entry.Env = d.variables(fields["env"], what+".env")
	entry.DependsOn = d.texts(fields["depends_on"], what+".depends_on")
	d.execOptions(&entry, fields, what)
	if health, given := fields["health"]; given {
		entry.Health = d.checks(health, what+".health")
	}
	// An entry with a bad name is left out of what comes next; with other problems it stays, for its dependants' sake.
	return entry, at, entry.Name != "" || len(d.problems) == known
}

func (d *decoder) execOptions(entry *Exec, fields map[string]field, what string) {
	if item, given := fields["working_dir"]; given {
		if text, ok := d.text(item, what+".working_dir"); ok {
			if text != "" && !path.IsAbs(text) {
				d.problem(place(item.value, item.key), "begin it with '/'", "%s.working_dir %q is not an absolute path", what, text)
			}
			entry.WorkingDir = text
		}
	}
	if item, given := fields["user"]; given {
		entry.User, _ = d.text(item, what+".user")
	}
	if item, given := fields["run_once"]; given {
		if value, ok := d.boolean(item, what+".run_once"); ok {
			entry.RunOnce = &value
		}
	}
	if item, given := fields["init"]; given {
		if value, ok := d.boolean(item, what+".init"); ok {
			entry.Init = &value
		}
	}
	if item, given := fields["restart"]; given {
		word, _ := d.oneOf(item, what+".restart", string(RestartAlways), string(RestartOnFailure), string(RestartNever))
		entry.Restart = Restart(word)
	}
	if item, given := fields["backoff"]; given {
		if value, ok := d.duration(item, what+".backoff", 10*time.Millisecond, time.Hour); ok {
			entry.Backoff = value
		}
	}
	if item, given := fields["stop_timeout"]; given {
		if value, ok := d.duration(item, what+".stop_timeout", 0, time.Hour); ok {
			entry.StopTimeout = &value
		}
	}
	if item, given := fields["stop_signal"]; given {
		if text, ok := d.text(item, what+".stop_signal"); ok {
			number, err := ParseSignal(text)
			if err != nil {
				d.problem(place(item.value, item.key), "write a name like SIGTERM or SIGQUIT", "%s.stop_signal: %v", what, err)
			}
			entry.StopSignal = number
		}
	}
	if item, given := fields["vsock_cid"]; given {
		if value, ok := d.integer(item, what+".vsock_cid", 0, 1<<32-1); ok {
			cid := uint32(value)
			entry.VsockCID = &cid
		}
	}
	if cid, given := fields["vsock_cid"]; given && fields["vsock_port"].key == nil {
		d.problem(cid.key, "add 'vsock_port: 9000'", "%s has a vsock_cid but no vsock_port", what)
	}
	if item, given := fields["vsock_port"]; given {
		if value, ok := d.integer(item, what+".vsock_port", 0, 1<<32-1); ok {
			port := uint32(value)
			entry.VsockPort = &port
		}
	}
}

func (d *decoder) variables(item field, what string) []Variable {
	var variables []Variable
	for index, node := range d.list(item, what) {
		what := fmt.Sprintf("%s[%d]", what, index)
		at := place(node, item.key)
		fields, ok := d.fields(d.resolve(node), at, what, "name", "value", "value_from")
		if !ok {
			continue
		}
		variable := Variable{}
		name, named := fields["name"]
		if named {
			variable.Name, ok = d.text(name, what+".name")
		}
		if !named || ok && !variablePattern().MatchString(variable.Name) {
			d.problem(at, "add 'name: NAME': letters, digits and '_'", "%s has no name that a variable can have", what)
		}
		value, valued := fields["value"]
		from, taken := fields["value_from"]
		switch {
		case valued && taken:
			d.problem(from.key, "keep one of value and value_from", "%s has both value and value_from", what)
		case taken:
			_, variable.FromEnv = d.oneOf(from, what+".value_from", "env")
		case valued:
			variable.Value, _ = d.text(value, what+".value")
		default:
			d.problem(at, "add 'value: …' or 'value_from: env'", "%s has neither value nor value_from", what)
		}
		variables = append(variables, variable)
	}
	return variables
}

func (d *decoder) hooks(item field) Hooks {
	hooks := Hooks{Timeout: DefaultHookTimeout}
	fields, ok := d.fields(item.value, item.key, "hooks", "pre_start", "post_stop", "post_restore", "timeout")
	if !ok {
		return hooks
	}
	hooks.PreStart = d.commands(fields["pre_start"], "hooks.pre_start")
	hooks.PostStop = d.commands(fields["post_stop"], "hooks.post_stop")
	hooks.PostRestore = d.commands(fields["post_restore"], "hooks.post_restore")
	if timeout, given := fields["timeout"]; given {
		if value, ok := d.duration(timeout, "hooks.timeout", time.Millisecond, maxPeriod); ok {
			hooks.Timeout = value
		}
	}
	return hooks
}

// commands reads a list whose items are a path or an argument list.
func (d *decoder) commands(item field, what string) [][]string {
	var commands [][]string
	for index, node := range d.list(item, what) {
		what := fmt.Sprintf("%s[%d]", what, index)
		inner := field{place(node, item.key), d.resolve(node)}
		var command []string
		if _, list := inner.value.(*ast.SequenceNode); list {
			command = d.texts(inner, what)
		} else if text, ok := d.text(inner, what); ok {
			command = []string{text}
		} else {
			continue
		}
		if len(command) == 0 || command[0] == "" {
			d.problem(inner.key, "write a path, or a list like [/bin/sh, -c, …]", "%s names no program", what)
			continue
		}
		commands = append(commands, command)
	}
	return commands
}

// ParseSignal reads SIGTERM, TERM, 15 or SIGRTMIN+3.
func ParseSignal(text string) (unix.Signal, error) {
	name := strings.ToUpper(strings.TrimSpace(text))
	if number, err := strconv.Atoi(name); err == nil && number >= 1 && number <= 64 {
		return unix.Signal(number), nil
	}
	name = "SIG" + strings.TrimPrefix(name, "SIG")
	if number := unix.SignalNum(name); number != 0 {
		return number, nil
	}
	const firstRealTime, lastRealTime = 34, 64 // as glibc and musl number them
	if offset, found := strings.CutPrefix(name, "SIGRTMIN"); found {
		number, err := strconv.Atoi(strings.TrimPrefix(offset, "+"))
		if offset == "" {
			number, err = 0, nil
		}
		if err == nil && number >= 0 && firstRealTime+number <= lastRealTime {
			return unix.Signal(firstRealTime + number), nil
		}
	}
	return 0, fmt.Errorf("there is no signal %q", text)
}

// checkDependencies refuses unknown names and cycles.
func (d *decoder) checkDependencies(entries []Exec, places map[string]*token.Token) {
	byName := make(map[string]*Exec, len(entries))
	for index := range entries {
		byName[entries[index].Name] = &entries[index]
	}
	for _, entry := range entries {
		for _, name := range entry.DependsOn {
			if _, known := byName[name]; !known {
				d.problem(places[entry.Name], suggest(name, sortedKeys(byName)), "%q depends on %q, which is not an entry of exec", entry.Name, name)
			}
		}
	}
	const visiting, done = 1, 2
	state := make(map[string]int, len(entries))
	var trail []string
	var visit func(entry *Exec)
	visit = func(entry *Exec) {
		state[entry.Name] = visiting
		trail = append(trail, entry.Name)
		for _, name := range entry.DependsOn {
			next, known := byName[name]
			switch {
			case !known || state[name] == done:
			case state[name] == visiting:
				cycle := append(slices.Clone(trail[slices.Index(trail, name):]), name)
				d.problem(places[entry.Name], "remove one of these dependencies", "depends_on goes in a circle: %s", strings.Join(cycle, " → "))
			default:
				visit(next)
			}
		}
		trail = trail[:len(trail)-1]
		state[entry.Name] = done
	}
	for index := range entries {
		if state[entries[index].Name] == 0 {
			visit(&entries[index])
		}
	}
}
