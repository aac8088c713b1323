// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strings"
)

// What a hostile or broken document may not exceed. Bytes are counted over all parts, inflated.
const (
	maxDocumentBytes = 32 << 20
	maxParts         = 256
	maxNesting       = 8
)

const cloudConfigHeader = "#cloud-config"

// userData is a document taken apart: merged cloud-config, scripts, and what this agent leaves undone.
type userData struct {
	config    map[string]any
	scripts   []script
	boothooks []script
	unknown   []string
	problems  []error
	parts     int // looked at, containers included
	attached  int // that count for the names of those that have none
	bytes     int // inflated so far
}

// scriptKind says when a script runs.
type scriptKind string

const (
	scriptUser        scriptKind = "user"
	scriptPerOnce     scriptKind = "per-once"
	scriptPerBoot     scriptKind = "per-boot"
	scriptPerInstance scriptKind = "per-instance"
)

// script is one executable part. Those of a kind run in the order of their names.
type script struct {
	name    string
	content []byte
	kind    scriptKind
}

// part is a piece of user-data with what its MIME header says of it.
type part struct {
	content   []byte
	mimeType  string
	filename  string
	mergeType string
}

// Kinds of parts by their first bytes in lower case, the longest first as upstream looks for them.
var kindsByHeader = []struct{ header, mimeType string }{
	{"#cloud-config-archive", "text/cloud-config-archive"},
	{"#cloud-config-jsonp", "text/cloud-config-jsonp"},
	{"## template: jinja", "text/jinja2"},
	{"#cloud-boothook", "text/cloud-boothook"},
	{"#include-once", "text/x-include-once-url"},
	{"#cloud-config", "text/cloud-config"},
	{"#part-handler", "text/part-handler"},
	{"#include", "text/x-include-url"},
	{"#!", "text/x-shellscript"},
}

// Kinds that this agent does not serve, by the name under which it reports them.
var kindsNotServed = map[string]string{
	"text/x-include-url":      "#include",
	"text/x-include-once-url": "#include-once",
	"text/part-handler":       "#part-handler",
	"text/cloud-config-jsonp": "#cloud-config-jsonp",
	"text/jinja2":             "## template: jinja",
}

// Types that say nothing, so that the content has to; upstream does not believe the last one either.
var typesWithoutMeaning = []string{"", "text/plain", "text/x-not-multipart", "text/x-shellscript"}

// parseUserData takes user-data apart as upstream does: gzip, MIME multi-part, archives, scripts by their shebang,
// cloud-config by its first line. Comments and blank lines above that first line are dropped, which upstream does not do.
func parseUserData(document []byte) *userData {
	data := &userData{config: make(map[string]any)}
	data.addPart(part{content: document}, 0)
	return data
}

func (d *userData) problem(format string, arguments ...any) {
	d.problems = append(d.problems, fmt.Errorf("user-data: "+format, arguments...))
}

// inflate undoes gzip and counts what that gives.
func (d *userData) inflate(content []byte) ([]byte, error) {
	content, err := inflate(content, maxDocumentBytes-d.bytes)
	d.bytes += len(content)
	return content, err
}

func (d *userData) addPart(p part, depth int) {
	if d.parts++; d.parts > maxParts || depth > maxNesting {
		if d.parts <= maxParts+1 {
			d.problem("it has too many parts, or too many within one another")
		}
		return
	}
	content, err := d.inflate(p.content)
	if err != nil {
		d.problem("%w", err)
		return
	}
	p.content = trimAboveHeader(content)
	if len(bytes.TrimSpace(p.content)) == 0 {
		return
	}
	if slices.Contains(typesWithoutMeaning, p.mimeType) {
		if isMessage(p.content) {
			d.addMessage(p.content, depth)
			return
		}
		if kind := kindByHeader(p.content); kind != "" {
			p.mimeType = kind
		}
	}
	if p.mimeType == "text/cloud-config-archive" {
		d.addArchive(p.content, depth)
		return
	}
	d.attached++
	if p.filename = cleanName(p.filename); p.filename == "" {
		p.filename = fmt.Sprintf("part-%03d", d.attached)
	}
	d.addKind(p)
}

func (d *userData) addKind(p part) {
	switch p.mimeType {
	case "text/cloud-config":
		d.addConfig(p)
	case "text/x-shellscript":
		d.addScript(p, scriptUser)
	case "text/x-shellscript-per-boot":
		d.addScript(p, scriptPerBoot)
	case "text/x-shellscript-per-instance":
		d.addScript(p, scriptPerInstance)
	case "text/x-shellscript-per-once":
		d.addScript(p, scriptPerOnce)
	case "text/cloud-boothook":
		d.addBoothook(p)
	default:
		if name, known := kindsNotServed[p.mimeType]; known {
			d.unknown = append(d.unknown, name)
			return
		}
		first, _, _ := strings.Cut(string(p.content[:min(len(p.content), 200)]), "\n")
		of := "it"
		if p.mimeType != "" {
			of = fmt.Sprintf("its part %s (%.100s)", p.filename, p.mimeType)
		}
		d.problem("%s starts with %.40q: neither %s nor a script nor MIME", of, strings.TrimSpace(first), cloudConfigHeader)
	}
}

func kindByHeader(content []byte) string {
	start := strings.ToLower(string(content[:min(len(content), 64)]))
	for _, kind := range kindsByHeader {
		if strings.HasPrefix(start, kind.header) {
			return kind.mimeType
		}
	}
	return ""
}

// cleanName leaves of a file's name what upstream leaves, so that it is a name within the folder of scripts.
func cleanName(name string) string {
	name = strings.Map(func(char rune) rune {
		switch {
		case char == '/':
			return '_'
		case 'a' <= char && char <= 'z', 'A' <= char && char <= 'Z', '0' <= char && char <= '9', strings.ContainsRune("_-.()", char):
			return char
		}
		return -1
	}, name)
	if strings.Trim(name, ".") == "" {
		return ""
	}
	return name[:min(len(name), 200)]
}

// addArchive adds the entries of a list of documents: texts, or {content, type, filename}.
func (d *userData) addArchive(content []byte, depth int) {
	var entries []any
	if err := decodeYAML(content, &entries); err != nil {
		d.problem("its cloud-config-archive is not a valid YAML list: %w", err)
		return
	}
	for index, entry := range entries {
		archived, ok := asFields(entry)
		if text, isText := entry.(string); isText {
			archived, ok = fields{"content": text}, true
		}
		if !ok {
			d.problem("entry %d of its cloud-config-archive is neither a text nor a mapping", index+1)
			continue
		}
		text, err := asText(archived.get("content"))
		if err != nil {
			d.problem("content of entry %d of its cloud-config-archive: %w", index+1, err)
			continue
		}
		p := part{content: []byte(text), mimeType: archived.text("type"), filename: archived.text("filename")}
		for key := range archived {
			if strings.EqualFold(key, mergeTypeHeader) || strings.EqualFold(key, "X-"+mergeTypeHeader) {
				p.mergeType = archived.text(key)
			}
		}
		if p.mimeType == "" {
			p.mimeType = "text/cloud-config"
			if kind := kindByHeader(p.content); kind != "" {
				p.mimeType = kind
			}
		}
		d.addPart(p, depth+1)
	}
}

// addConfig merges a cloud-config document into those before it, in the way that it asks for.
func (d *userData) addConfig(p part) {
	var config map[string]any
	if err := decodeYAML(p.content, &config); err != nil {
		d.problem("its cloud-config is not valid YAML: %w", err)
		return
	}
	how, err := takeMergers(config, p.mergeType)
	if err == nil {
		var merged any
		if merged, err = how.merge(d.config, config); err == nil {
			d.config, _ = merged.(map[string]any)
			return
		}
	}
	d.problem("%s is left out, it cannot be merged: %w", p.filename, err)
}

func (d *userData) addScript(p part, kind scriptKind) {
	if !bytes.HasPrefix(p.content, []byte("#!")) {
		d.problem("the script %s has no #! line", p.filename)
		return
	}
	d.scripts = append(d.scripts, script{name: p.filename, content: withoutReturns(p.content), kind: kind})
}

func (d *userData) addBoothook(p part) {
	content := bytes.TrimLeft(bytes.TrimPrefix(withoutReturns(p.content), []byte("#cloud-boothook")), "\r\n \t")
	if !bytes.HasPrefix(content, []byte("#!")) {
		content = append([]byte("#!/bin/sh\n"), content...)
	}
	d.boothooks = append(d.boothooks, script{name: "boothook-" + p.filename, content: content, kind: scriptPerBoot})
}

// withoutReturns makes the line ends of other systems this one's, if the first line ends so.
func withoutReturns(content []byte) []byte {
	if end := bytes.IndexByte(content, '\n'); end <= 0 || content[end-1] != '\r' {
		return content
	}
	return bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
}

// inflate undoes gzip where the content is gzip.
func inflate(content []byte, limit int) ([]byte, error) {
	tooLarge := fmt.Errorf("inflated it has more than %d bytes", maxDocumentBytes)
	if !bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
		if len(content) > limit {
			return nil, tooLarge
		}
		return content, nil
	}
	reader, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("its gzip is broken: %w", err)
	}
	inflated, err := io.ReadAll(io.LimitReader(reader, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("its gzip is broken: %w", err)
	}
	if len(inflated) > limit {
		return nil, tooLarge
	}
	return inflated, nil
}

// trimAboveHeader drops comments and blank lines above "#cloud-config", and blank lines above anything.
func trimAboveHeader(content []byte) []byte {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	content = bytes.TrimLeft(content, " \t\r\n")
	rest := content
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		trimmed := bytes.TrimSpace(line)
		switch kind := kindByHeader(trimmed); {
		case kind == "text/cloud-config", kind == "text/cloud-config-archive":
			return rest
		case kind != "" || (len(trimmed) > 0 && trimmed[0] != '#'):
			return content
		}
		rest = after
	}
	return content
}
