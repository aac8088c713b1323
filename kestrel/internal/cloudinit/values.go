// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"fmt"
	"strconv"
	"strings"
)

// asText is a scalar as text, the way it was meant: 1000 and "1000" are the same user id.
func asText(value any) (string, error) {
	switch value := value.(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	case []byte: // !!binary
		return string(value), nil
	case bool:
		return strconv.FormatBool(value), nil
	case uint64:
		return strconv.FormatUint(value, 10), nil
	case int64:
		return strconv.FormatInt(value, 10), nil
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64), nil
	}
	return "", fmt.Errorf("%v is not text", value)
}

// asBool is a boolean in YAML 1.1's or 1.2's spelling; a missing value is the fallback.
func asBool(value any, fallback bool) bool {
	switch value := value.(type) {
	case bool:
		return value
	case uint64:
		return value != 0
	case string:
		switch strings.ToLower(strings.TrimSpace(value)) {
		case "true", "yes", "on", "1", "y":
			return true
		case "false", "no", "off", "0", "n":
			return false
		}
	}
	return fallback
}

// isEmpty says whether a value asks for nothing: missing, false, or an empty text, list or mapping.
func isEmpty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case bool:
		return !value
	case string:
		return value == ""
	case []any:
		return len(value) == 0
	case map[string]any:
		return len(value) == 0
	}
	return false
}

// asList is a list, or the one value that stands for a list of one.
func asList(value any) []any {
	switch value := value.(type) {
	case nil:
		return nil
	case []any:
		return value
	}
	return []any{value}
}

// asTexts is a list of scalars; a single text is split at commas.
func asTexts(value any) ([]string, error) {
	if text, ok := value.(string); ok {
		var texts []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				texts = append(texts, part)
			}
		}
		return texts, nil
	}
	var texts []string
	for _, item := range asList(value) {
		text, err := asText(item)
		if err != nil {
			return texts, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// fields is a mapping whose keys may be spelled with - or _.
type fields map[string]any

func asFields(value any) (fields, bool) {
	mapping, ok := value.(map[string]any)
	return fields(mapping), ok
}

func (f fields) get(name string) any {
	if value, ok := f[name]; ok {
		return value
	}
	return f[strings.ReplaceAll(name, "_", "-")]
}

func (f fields) has(name string) bool {
	_, ok := f[name]
	if !ok {
		_, ok = f[strings.ReplaceAll(name, "_", "-")]
	}
	return ok
}

// text is a scalar's text, empty where it is missing or no scalar.
func (f fields) text(name string) string {
	text, err := asText(f.get(name))
	if err != nil {
		return ""
	}
	return text
}
