// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder walks a YAML tree and notes every problem with its place. YAML libraries stop at the first key they do
// not know; people want to hear everything at once.
type decoder struct {
	file     string
	problems []Problem
	anchors  map[string]ast.Node
	visited  int
}

// maxVisited bounds the work on documents whose aliases multiply.
const maxVisited = 100_000

func (d *decoder) problem(at *token.Token, resolution, format string, arguments ...any) {
	problem := Problem{File: d.file, Message: fmt.Sprintf(format, arguments...), Resolution: resolution}
	if at != nil && at.Position != nil {
		problem.Line, problem.Column = at.Position.Line, at.Position.Column
	}
	known := slices.ContainsFunc(d.problems, func(other Problem) bool {
		// What an alias without an anchor leads to is no news.
		return other == problem || other.Line == problem.Line && other.Column == problem.Column && strings.HasPrefix(other.Message, noAnchor)
	})
	if !known {
		d.problems = append(d.problems, problem)
	}
}

const noAnchor = "there is no anchor "

// Visit collects anchors (ast.Visitor).
func (d *decoder) Visit(node ast.Node) ast.Visitor {
	if anchor, ok := node.(*ast.AnchorNode); ok && anchor.Name != nil {
		d.anchors[anchor.Name.GetToken().Value] = anchor.Value
	}
	return d
}

// resolve looks through anchors, aliases and tags. nil stands for null and for what cannot be resolved.
func (d *decoder) resolve(node ast.Node) ast.Node {
	if d.visited++; d.visited > maxVisited {
		return nil
	}
	for range 32 {
		switch wrapped := node.(type) {
		case *ast.AnchorNode:
			node = wrapped.Value
		case *ast.TagNode:
			node = wrapped.Value
		case *ast.AliasNode:
			if wrapped.Value == nil {
				return nil
			}
			name := wrapped.Value.GetToken().Value
			target, ok := d.anchors[name]
			if !ok {
				d.problem(wrapped.GetToken(), "define it with &"+name+" above", noAnchor+"%q", name)
				return nil
			}
			node = target
		case *ast.NullNode, nil:
			return nil
		default:
			return node
		}
	}
	return nil
}

// field is one key of a mapping.
type field struct {
	key   *token.Token
	value ast.Node // resolved; nil for null
}

// fields reads a mapping and refuses keys that are not allowed. It reports false if the node is no mapping.
func (d *decoder) fields(node ast.Node, at *token.Token, what string, allowed ...string) (map[string]field, bool) {
	found := make(map[string]field)
	if !d.collect(found, node, at, what, allowed, 0) {
		return nil, false
	}
	return found, true
}

func (d *decoder) collect(
	found map[string]field, node ast.Node, at *token.Token, what string, allowed []string, depth int,
) bool {
	var values []*ast.MappingValueNode
	switch mapping := node.(type) {
	case *ast.MappingNode:
		values = mapping.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{mapping}
	default:
		d.problem(place(node, at), "write it as keys and values: "+strings.Join(allowed, ", "),
			"%s must be a mapping, not %s", what, kind(node))
		return false
	}
	var merged []ast.Node
	for _, value := range values {
		if value == nil || value.Key == nil {
			continue
		}
		key := value.Key.GetToken()
		if _, merges := value.Key.(*ast.MergeKeyNode); merges {
			merged = append(merged, value.Value)
			continue
		}
		name := key.Value
		if !slices.Contains(allowed, name) {
			d.problem(key, suggest(name, allowed), "unknown key %q in %s", name, what)
			continue
		}
		found[name] = field{key, d.resolve(value.Value)}
	}
	if depth > 8 {
		return true
	}
	for _, node := range merged { // what the mapping says itself wins
		sources := []ast.Node{d.resolve(node)}
		if list, ok := sources[0].(*ast.SequenceNode); ok {
			sources = list.Values
		}
		for _, source := range sources {
			inherited := make(map[string]field)
			d.collect(inherited, d.resolve(source), at, what, allowed, depth+1)
			for name, value := range inherited {
				if _, own := found[name]; !own {
					found[name] = value
				}
			}
		}
	}
	return true
}

// list reads a sequence; an absent or null one is empty.
func (d *decoder) list(item field, what string) []ast.Node {
	if item.value == nil {
		return nil
	}
	sequence, ok := item.value.(*ast.SequenceNode)
	if !ok {
		d.problem(place(item.value, item.key), "write it as a list: [a, b], or one '- a' a line",
			"%s must be a list, not %s", what, kind(item.value))
		return nil
	}
	nodes := make([]ast.Node, 0, len(sequence.Values))
	for _, node := range sequence.Values {
		if d.visited > maxVisited {
			break
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// scalar reads text. Numbers and booleans are taken as they are typed: a port is a good argument.
func (d *decoder) scalar(node ast.Node, at *token.Token, what string) (string, bool) {
	switch value := node.(type) {
	case *ast.StringNode:
		return value.Value, true
	case *ast.LiteralNode:
		return value.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return strings.TrimSpace(value.GetToken().Value), true
	case nil:
		return "", true
	}
	d.problem(place(node, at), "write text, in quotes if need be", "%s must be text, not %s", what, kind(node))
	return "", false
}

func (d *decoder) text(item field, what string) (string, bool) {
	text, ok := d.scalar(item.value, item.key, what)
	if ok && strings.IndexByte(text, 0) >= 0 {
		d.problem(item.key, "remove it", "%s holds a NUL byte, which no program can be given", what)
		return "", false
	}
	return text, ok
}

// texts reads a list of text.
func (d *decoder) texts(item field, what string) []string {
	var all []string
	for index, node := range d.list(item, what) {
		resolved := d.resolve(node)
		if resolved == nil {
			d.problem(place(node, item.key), `write "" for an empty one`, "%s[%d] is empty", what, index)
			continue
		}
		text, ok := d.text(field{place(node, item.key), resolved}, fmt.Sprintf("%s[%d]", what, index))
		if ok {
			all = append(all, text)
		}
	}
	return all
}

func (d *decoder) boolean(item field, what string) (bool, bool) {
	if value, ok := item.value.(*ast.BoolNode); ok {
		return value.Value, true
	}
	d.problem(place(item.value, item.key), "write true or false", "%s must be true or false, not %s", what, kind(item.value))
	return false, false
}

func (d *decoder) integer(item field, what string, least, most int64) (int64, bool) {
	if _, ok := item.value.(*ast.IntegerNode); ok {
		text := strings.ReplaceAll(item.value.GetToken().Value, "_", "")
		if number, err := strconv.ParseInt(strings.TrimSpace(text), 0, 64); err == nil && number >= least && number <= most {
			return number, true
		}
	}
	d.problem(place(item.value, item.key), fmt.Sprintf("write a whole number from %d to %d", least, most),
		"%s must be a whole number from %d to %d", what, least, most)
	return 0, false
}

// duration reads "10s", "1m30s" or "500ms"; a bare whole number means seconds.
func (d *decoder) duration(item field, what string, least, most time.Duration) (time.Duration, bool) {
	text, ok := d.scalar(item.value, item.key, what)
	if !ok {
		return 0, false
	}
	value, err := time.ParseDuration(text)
	if seconds, numeric := strconv.ParseInt(text, 10, 32); numeric == nil {
		value, err = time.Duration(seconds)*time.Second, nil
	}
	switch {
	case err != nil:
		d.problem(place(item.value, item.key), "write a number and a unit: 10s, 500ms, 1m30s",
			"%s must be a duration, not %q", what, text)
		return 0, false
	case value < least || value > most:
		d.problem(place(item.value, item.key), fmt.Sprintf("write a duration from %s to %s", least, most),
			"%s is %s, outside of %s to %s", what, text, least, most)
		return 0, false
	}
	return value, true
}

// oneOf reads a word of a fixed set.
func (d *decoder) oneOf(item field, what string, words ...string) (string, bool) {
	text, ok := d.scalar(item.value, item.key, what)
	if ok && slices.Contains(words, text) {
		return text, true
	}
	if ok {
		d.problem(place(item.value, item.key), "write one of "+strings.Join(words, ", "),
			"%s is %q, not one of %s", what, text, strings.Join(words, ", "))
	}
	return "", false
}

func place(node ast.Node, fallback *token.Token) *token.Token {
	if node != nil {
		if at := node.GetToken(); at != nil {
			if mapping, ok := node.(*ast.MappingValueNode); ok && mapping.Key != nil {
				return mapping.Key.GetToken()
			}
			if mapping, ok := node.(*ast.MappingNode); ok && len(mapping.Values) > 0 && mapping.Values[0].Key != nil {
				return mapping.Values[0].Key.GetToken()
			}
			return at
		}
	}
	return fallback
}

func kind(node ast.Node) string {
	switch node.(type) {
	case nil:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.IntegerNode, *ast.FloatNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	default:
		return "text"
	}
}

// suggest says what may be meant by an unknown key.
func suggest(name string, allowed []string) string {
	best, distance := "", 3
	for _, candidate := range allowed {
		if other := editDistance(strings.ToLower(name), candidate); other < distance {
			best, distance = candidate, other
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "remove it; known here: " + strings.Join(allowed, ", ")
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for index := range row {
		row[index] = index
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[Value any](values map[string]Value) []string {
	return slices.Sorted(maps.Keys(values))
}
