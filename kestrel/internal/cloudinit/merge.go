// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// How upstream merges a part of user-data into those before it: cloudinit/mergers of its source.

// defaultMergers is what a part that says nothing gets: of two parts with the same key the later wins.
const defaultMergers = "dict(replace)+list()+str()"

// merger is one of dict, list and str with its options. The first of its kind in a part's list counts.
type merger struct {
	kind    string
	options []string
}

func (m merger) has(options ...string) bool {
	return slices.ContainsFunc(options, func(option string) bool { return slices.Contains(m.options, option) })
}

// method is the first of the known methods that the options name.
func (m merger) method(fallback string, known ...string) string {
	for _, method := range known {
		if slices.Contains(m.options, method) {
			return method
		}
	}
	return fallback
}

type mergers []merger

func (m mergers) find(kind string) (merger, bool) {
	index := slices.IndexFunc(m, func(merger merger) bool { return merger.kind == kind })
	if index < 0 {
		return merger{}, false
	}
	return m[index], true
}

var mergerName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([a-z_][a-z0-9_]*)\((.*?)\)$`) })

// parseMergers reads "dict(recurse_array)+list(append)".
func parseMergers(text string) (mergers, error) {
	var found mergers
	for part := range strings.SplitSeq(text, "+") {
		part = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(part)), "-", "_")
		if part == "" {
			continue
		}
		match := mergerName().FindStringSubmatch(part)
		if match == nil {
			return nil, fmt.Errorf("%q is not like dict(option, option)", part)
		}
		var options []string
		for option := range strings.SplitSeq(match[2], ",") {
			if option = strings.TrimSpace(option); option != "" {
				options = append(options, option)
			}
		}
		found = append(found, merger{kind: match[1], options: options})
	}
	return found, found.check()
}

// readMergers reads the same from YAML: a text, or a list of {name, settings} or [name, option, …].
func readMergers(value any) (mergers, error) {
	if text, ok := value.(string); ok {
		return parseMergers(text)
	}
	list, ok := value.([]any)
	if !ok && value != nil {
		return nil, fmt.Errorf("%T is neither a text nor a list", value)
	}
	var found mergers
	for _, item := range list {
		var name any
		var settings []any
		switch item := item.(type) {
		case map[string]any:
			name, settings = item["name"], asList(item["settings"])
		case []any:
			if len(item) == 0 {
				continue
			}
			name, settings = item[0], item[1:]
		default:
			return nil, fmt.Errorf("%v is neither {name, settings} nor a list", item)
		}
		kind, err := asText(name)
		if err != nil {
			return nil, err
		}
		options, err := asTexts(settings)
		if err != nil {
			return nil, err
		}
		if kind = strings.TrimSpace(strings.ReplaceAll(kind, "-", "_")); kind != "" {
			found = append(found, merger{kind: kind, options: options})
		}
	}
	return found, found.check()
}

// check also drops the m_ that upstream lets the names begin with.
func (m mergers) check() error {
	for index := range m {
		m[index].kind = strings.TrimPrefix(m[index].kind, "m_")
		if !slices.Contains([]string{"dict", "list", "str"}, m[index].kind) {
			return fmt.Errorf("there is no merger %q (dict, list, str)", m[index].kind)
		}
	}
	return nil
}

// takeMergers takes merge_how or merge_type out of a part and adds what its MIME header says.
func takeMergers(config map[string]any, header string) (mergers, error) {
	var found mergers
	for _, key := range []string{"merge_how", "merge_type"} {
		value, ok := config[key]
		if !ok {
			continue
		}
		delete(config, key)
		if value == nil {
			continue
		}
		named, err := readMergers(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		found = named
		break
	}
	named, err := parseMergers(header)
	if err != nil {
		return nil, fmt.Errorf("Merge-Type: %w", err)
	}
	if found = append(found, named...); len(found) == 0 {
		return parseMergers(defaultMergers)
	}
	if _, ok := found.find("dict"); !ok {
		return nil, errors.New("merge_how names no dict(…), without which the part is lost")
	}
	return found, nil
}

// merge gives what becomes of an older value when a newer one of the same place is merged in. A kind for which no
// merger was named keeps the older value.
func (m mergers) merge(older, newer any) (any, error) {
	switch older := older.(type) {
	case map[string]any:
		if how, ok := m.find("dict"); ok {
			return m.mergeMapping(how, older, newer)
		}
	case []any:
		if how, ok := m.find("list"); ok {
			return m.mergeList(how, older, newer)
		}
	case string:
		if how, ok := m.find("str"); ok {
			return mergeText(how, older, newer)
		}
	}
	return older, nil
}

func mergeText(how merger, older string, newer any) (any, error) {
	if !how.has("append") {
		return newer, nil
	}
	text, ok := newer.(string)
	if !ok {
		return nil, fmt.Errorf("str(append) cannot append %T to a text", newer)
	}
	return older + text, nil
}

func (m mergers) mergeMapping(how merger, older map[string]any, newer any) (any, error) {
	mapping, ok := newer.(map[string]any)
	if !ok {
		return older, nil
	}
	merged := maps.Clone(older)
	replace := how.has("replace")
	for key, value := range mapping {
		before, there := merged[key]
		switch {
		case !there:
			merged[key] = value
		case value == nil && how.has("allow_delete"):
			delete(merged, key)
		case replace:
			merged[key] = value
		case m.recurses(how, value, true):
			result, err := m.merge(before, value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			merged[key] = result
		}
	}
	return merged, nil
}

// recurses says whether a newer value is merged with the older one. Mappings within mappings always are.
func (m mergers) recurses(how merger, newer any, always bool) bool {
	switch newer.(type) {
	case []any:
		return how.has("recurse_array", "recurse_list")
	case string:
		return how.has("recurse_str")
	case map[string]any:
		return always || how.has("recurse_dict")
	}
	return false
}

func (m mergers) mergeList(how merger, older []any, newer any) (any, error) {
	method := how.method("replace", "append", "prepend", "replace", "no_replace")
	list, ok := newer.([]any)
	switch {
	case !ok && method == "replace":
		return newer, nil
	case !ok:
		return nil, fmt.Errorf("list(%s) cannot take %T into a list", method, newer)
	case method == "append":
		return slices.Concat(older, list), nil
	case method == "prepend":
		return slices.Concat(list, older), nil
	case method == "no_replace":
		return older, nil
	}
	merged := slices.Clone(older)
	for index := range min(len(merged), len(list)) {
		if !m.recurses(how, list[index], false) {
			merged[index] = list[index]
			continue
		}
		result, err := m.merge(merged[index], list[index])
		if err != nil {
			return nil, err
		}
		merged[index] = result
	}
	return merged, nil
}
