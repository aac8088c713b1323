// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// What a YAML document may hold. The parser's time and memory grow with the square of its nesting.
const (
	maxValues     = 1 << 20
	maxValueDepth = 100
	maxNestedLine = 1000
)

// decodeYAML reads YAML as leniently as upstream's parser. A parser that panics has met a broken document.
func decodeYAML(content []byte, into any) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("%v", problem)
		}
	}()
	if err := checkNesting(content); err != nil {
		return err
	}
	if err := yaml.UnmarshalWithOptions(content, into, yaml.AllowDuplicateMapKey()); err != nil {
		return errors.New(firstLines(err.Error()))
	}
	left := maxValues
	switch into := into.(type) {
	case *map[string]any:
		return countValues(*into, &left, maxValueDepth)
	case *[]any:
		return countValues(*into, &left, maxValueDepth)
	}
	return nil
}

// firstLines keeps a parser's message short, which shows the lines of the document around the place.
func firstLines(message string) string {
	first, _, _ := strings.Cut(message, "\n")
	return first
}

// countValues refuses what aliases blow up: the decoder shares what they stand for, who walks it does not.
func countValues(value any, left *int, depth int) error {
	if *left--; *left < 0 {
		return fmt.Errorf("it holds more than %d values, aliases counted where they are used", maxValues)
	}
	if depth < 0 {
		return fmt.Errorf("its values lie more than %d deep in one another", maxValueDepth)
	}
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			if err := countValues(item, left, depth-1); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, item := range value {
			if err := countValues(item, left, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkNesting refuses documents that nest more than the parser can bear, before it sees them: brackets that are open
// at one time, wherever they stand, and what YAML lets be nested on one line ("- - - x", "a: b: c", "&a &b x"). A text
// within the document counts as well, which no text that people write gets near.
func checkNesting(content []byte) error {
	open, number := 0, 0
	for line := range bytes.Lines(content) {
		number++
		nested := 0
		for index, char := range line {
			switch char {
			case '[', '{':
				open++
				nested = 0
			case ']', '}':
				open = max(0, open-1)
				nested = 0
			case ',':
				nested = 0
			case '-', '?', ':':
				if index+1 < len(line) && (line[index+1] == ' ' || line[index+1] == '\t') {
					nested++
				}
			case '&', '!', '*':
				if index == 0 || line[index-1] == ' ' || line[index-1] == '\t' {
					nested++
				}
			}
			if max(open, nested) > maxNestedLine {
				return fmt.Errorf("line %d: it is nested more than %d deep", number, maxNestedLine)
			}
		}
	}
	return nil
}
