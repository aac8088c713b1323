// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"

	"github.com/goccy/go-yaml"
)

// What a hostile or broken document may not exceed.
const (
	maxDocumentBytes = 32 << 20
	maxParts         = 256
	maxNesting       = 8
)

const cloudConfigHeader = "#cloud-config"

// userData is a document taken apart: merged cloud-config, scripts in their order, and what this agent leaves undone.
type userData struct {
	config    map[string]any
	scripts   []script
	boothooks []script
	unknown   []string
	problems  []error
	parts     int
}

// script is one executable part. perBoot: run at every boot, not once per instance.
type script struct {
	name    string
	content []byte
	perBoot bool
}

// parseUserData takes user-data apart as upstream does: gzip, MIME multi-part, scripts by their shebang, cloud-config
// by its first line. Comments and blank lines above that first line are dropped, which upstream does not do.
func parseUserData(document []byte) *userData {
	data := &userData{config: make(map[string]any)}
	data.addPart(document, "", 0)
	return data
}

func (d *userData) problem(format string, arguments ...any) {
	d.problems = append(d.problems, fmt.Errorf("user-data: "+format, arguments...))
}

// addPart adds a document of a MIME type; an empty or general type is found out from the content.
func (d *userData) addPart(content []byte, mimeType string, depth int) {
	if d.parts++; d.parts > maxParts || depth > maxNesting {
		d.problem("it has too many parts")
		return
	}
	content, err := inflate(content)
	if err != nil {
		d.problem("%w", err)
		return
	}
	content = trimAboveHeader(content)
	if len(bytes.TrimSpace(content)) == 0 {
		return
	}
	switch mimeType {
	case "text/cloud-config":
		d.addConfig(content)
		return
	case "text/x-shellscript", "text/x-shellscript-per-instance", "text/x-shellscript-per-once":
		d.addScript(content, false)
		return
	case "text/x-shellscript-per-boot":
		d.addScript(content, true)
		return
	case "text/cloud-boothook":
		d.addBoothook(content)
		return
	}
	first, _, _ := strings.Cut(string(content), "\n")
	first = strings.TrimSpace(first)
	lower := strings.ToLower(first)
	switch {
	case strings.HasPrefix(first, "#!"):
		d.addScript(content, false)
	case first == cloudConfigHeader:
		d.addConfig(content)
	case first == "#cloud-boothook":
		d.addBoothook(content)
	case strings.HasPrefix(lower, "content-type:") || strings.HasPrefix(lower, "mime-version:"):
		d.addMessage(content, depth)
	case strings.HasPrefix(first, "#include"), first == "#part-handler", first == "#cloud-config-archive",
		first == "#cloud-config-jsonp", strings.HasPrefix(first, "## template:"):
		d.unknown = append(d.unknown, strings.TrimLeft(first, "# "))
	default:
		d.problem("it starts with %.40q: neither %s nor a script nor MIME", first, cloudConfigHeader)
	}
}

// addMessage adds the parts of a MIME message (RFC 2045, 2046).
func (d *userData) addMessage(content []byte, depth int) {
	message, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		d.problem("its MIME header is broken: %w", err)
		return
	}
	d.addEntity(message.Header.Get("Content-Type"), message.Header.Get("Content-Transfer-Encoding"), message.Body, depth)
}

func (d *userData) addEntity(contentType, encoding string, body io.Reader, depth int) {
	mimeType, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		mimeType = "text/plain" // RFC 2045, 5.2
	}
	if !strings.HasPrefix(mimeType, "multipart/") {
		switch strings.ToLower(encoding) {
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, body)
		case "quoted-printable":
			body = quotedprintable.NewReader(body)
		}
		content, err := io.ReadAll(io.LimitReader(body, maxDocumentBytes+1))
		if err != nil || len(content) > maxDocumentBytes {
			d.problem("a MIME part cannot be decoded (%v)", errors.Join(err))
			return
		}
		d.addPart(content, mimeType, depth+1)
		return
	}
	reader := multipart.NewReader(body, parameters["boundary"])
	for {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			d.problem("its MIME parts are broken: %w", err)
			return
		}
		if d.parts > maxParts || depth > maxNesting {
			d.problem("it has too many parts")
			return
		}
		d.addEntity(part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part, depth+1)
	}
}

// addConfig merges a cloud-config document: of two parts with the same key the later wins, which is upstream's
// default for parts of user-data (dict(replace)+list()+str()).
func (d *userData) addConfig(content []byte) {
	var config map[string]any
	if err := decodeYAML(content, &config); err != nil {
		d.problem("its cloud-config is not valid YAML: %w", err)
		return
	}
	for key, value := range config {
		d.config[key] = value
	}
}

// decodeYAML reads YAML as leniently as upstream's parser. A parser that panics has met a broken document.
func decodeYAML(content []byte, into any) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("%v", problem)
		}
	}()
	return yaml.UnmarshalWithOptions(content, into, yaml.AllowDuplicateMapKey())
}

func (d *userData) addScript(content []byte, perBoot bool) {
	if !bytes.HasPrefix(content, []byte("#!")) {
		d.problem("a script has no #! line")
		return
	}
	name := fmt.Sprintf("part-%03d", len(d.scripts)+1)
	d.scripts = append(d.scripts, script{name: name, content: content, perBoot: perBoot})
}

func (d *userData) addBoothook(content []byte) {
	content = bytes.TrimPrefix(content, []byte("#cloud-boothook"))
	content = bytes.TrimLeft(content, "\r\n")
	if !bytes.HasPrefix(content, []byte("#!")) {
		content = append([]byte("#!/bin/sh\n"), content...)
	}
	name := fmt.Sprintf("boothook-%03d", len(d.boothooks)+1)
	d.boothooks = append(d.boothooks, script{name: name, content: content, perBoot: true})
}

// inflate undoes gzip where the content is gzip.
func inflate(content []byte) ([]byte, error) {
	if !bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
		return content, nil
	}
	reader, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("its gzip is broken: %w", err)
	}
	inflated, err := io.ReadAll(io.LimitReader(reader, maxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("its gzip is broken: %w", err)
	}
	if len(inflated) > maxDocumentBytes {
		return nil, fmt.Errorf("inflated it has more than %d bytes", maxDocumentBytes)
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
		switch {
		case string(trimmed) == cloudConfigHeader:
			return rest
		case bytes.HasPrefix(trimmed, []byte("#!")), bytes.HasPrefix(trimmed, []byte("## template:")):
			return content
		case len(trimmed) > 0 && trimmed[0] != '#':
			return content
		}
		rest = after
	}
	return content
}
