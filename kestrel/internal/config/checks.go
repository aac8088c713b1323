// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// checks reads `health`: one check, or a list of named ones.
func (d *decoder) checks(item field, what string) []Check {
	if item.value == nil {
		return nil
	}
	sequence, list := item.value.(*ast.SequenceNode)
	if !list {
		if check, _, ok := d.check(item.value, item.key, what); ok {
			return []Check{check}
		}
		return nil
	}
	var checks []Check
	names := make(map[string]bool)
	for index, node := range sequence.Values {
		what := fmt.Sprintf("%s[%d]", what, index)
		check, named, ok := d.check(d.resolve(node), place(node, item.key), what)
		if !ok {
			continue
		}
		if !named {
			d.problem(place(node, item.key), "add 'name: …'", "%s has no name; a check in a list needs one", what)
		}
		if names[check.Name] {
			d.problem(place(node, item.key), "give each check a name of its own", "the name %q is used twice in the list", check.Name)
		}
		names[check.Name] = true
		checks = append(checks, check)
	}
	return checks
}

func (d *decoder) check(node ast.Node, at *token.Token, what string) (check Check, named, ok bool) {
	fields, ok := d.fields(node, at, what, "name", "http", "tcp", "exec")
	if !ok {
		return Check{}, false, false
	}
	var kinds []string
	for _, kind := range []string{"http", "tcp", "exec"} {
		if _, given := fields[kind]; given {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		d.problem(place(node, at), "keep one, or write a list of named checks",
			"%s must have exactly one of http, tcp and exec, not %s", what, countWord(kinds))
		return Check{}, false, false
	}
	item := fields[kinds[0]]
	check, ok = d.checkBody(CheckKind(kinds[0]), item, what+"."+kinds[0])
	check.Name = kinds[0]
	if name, given := fields["name"]; given {
		if text, valid := d.text(name, what+".name"); valid {
			if namePattern().MatchString(text) {
				check.Name, named = text, true
			} else {
				d.problem(place(name.value, name.key), "use letters, digits, '.', '_' and '-', at most 63",
					"%q cannot be the name of a check", text)
				named = true
			}
		}
	}
	return check, named, ok
}

func (d *decoder) checkBody(kind CheckKind, item field, what string) (Check, bool) {
	keys := []string{"interval", "timeout", "retries", "start_period", "on_failure"}
	switch kind {
	case CheckHTTP:
		keys = append([]string{"port", "path"}, keys...)
	case CheckTCP:
		keys = append([]string{"port"}, keys...)
	case CheckExec:
		keys = append([]string{"command", "args", "success_pattern"}, keys...)
	}
	fields, ok := d.fields(item.value, item.key, what, keys...)
	if !ok {
		return Check{}, false
	}
	check := Check{Kind: kind, Interval: DefaultInterval, Timeout: DefaultProbeTimeout, Retries: DefaultRetries}
	switch kind {
	case CheckHTTP, CheckTCP:
		if port, given := fields["port"]; given {
			number, _ := d.integer(port, what+".port", 1, 65535)
			check.Port = int(number)
		} else {
			d.problem(item.key, "add 'port: 8080'", "%s has no port", what)
		}
	case CheckExec:
		check.Timeout = DefaultExecTimeout
		if command, given := fields["command"]; given {
			check.Command, ok = d.text(command, what+".command")
			if ok && check.Command == "" {
				d.problem(command.key, "name a program", "%s has an empty command", what)
			}
		} else {
			d.problem(item.key, "add 'command: /path/to/program'", "%s has no command", what)
		}
		check.Args = d.texts(fields["args"], what+".args")
		d.pattern(&check, fields, what)
	}
	if kind == CheckHTTP {
		check.Path = "/"
		if item, given := fields["path"]; given {
			text, ok := d.text(item, what+".path")
			if ok && (!strings.HasPrefix(text, "/") || strings.ContainsAny(text, " \r\n\t")) {
				d.problem(place(item.value, item.key), "write it like /health, spaces as %20", "%s.path %q is not a path", what, text)
			}
			check.Path = text
		}
	}
	d.checkTimes(&check, fields, what)
	return check, true
}

func (d *decoder) pattern(check *Check, fields map[string]field, what string) {
	item, given := fields["success_pattern"]
	if !given {
		return
	}
	text, ok := d.text(item, what+".success_pattern")
	if !ok {
		return
	}
	pattern, err := regexp.Compile(text)
	if err != nil {
		d.problem(place(item.value, item.key), "write it as RE2 has it (no look-around)", "%s.success_pattern is no regular expression: %v", what, err)
		return
	}
	check.SuccessPattern = pattern
}

func (d *decoder) checkTimes(check *Check, fields map[string]field, what string) {
	if item, given := fields["interval"]; given {
		if value, ok := d.duration(item, what+".interval", 100*time.Millisecond, maxPeriod); ok {
			check.Interval = value
		}
	}
	if item, given := fields["timeout"]; given {
		if value, ok := d.duration(item, what+".timeout", 10*time.Millisecond, time.Hour); ok {
			check.Timeout = value
		}
	}
	if item, given := fields["start_period"]; given {
		if value, ok := d.duration(item, what+".start_period", 0, maxPeriod); ok {
			check.StartPeriod = value
		}
	}
	if item, given := fields["retries"]; given {
		if value, ok := d.integer(item, what+".retries", 1, 1000); ok {
			check.Retries = int(value)
		}
	}
	if item, given := fields["on_failure"]; given {
		word, _ := d.oneOf(item, what+".on_failure", "none", "restart")
		check.RestartOnUnhealthy = word == "restart"
	}
}

func countWord(kinds []string) string {
	if len(kinds) == 0 {
		return "none of them"
	}
	return strings.Join(kinds, " and ")
}
