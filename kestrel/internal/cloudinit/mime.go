// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
)

const mergeTypeHeader = "Merge-Type"

// isMessage says whether a document is MIME: upstream looks for the header's name near the beginning, and so does the
// agent as far as that is still the header.
func isMessage(content []byte) bool {
	head, _, _ := bytes.Cut(bytes.ReplaceAll(content[:min(len(content), 4096)], []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	for line := range strings.Lines(strings.ToLower(string(head))) {
		if strings.HasPrefix(line, "content-type:") || strings.HasPrefix(line, "mime-version:") {
			return !bytes.HasPrefix(content, []byte("#"))
		}
	}
	return false
}

// entity is a MIME message or a part of one. Both kinds of header of the library have Get.
type entity struct {
	header interface{ Get(name string) string }
	body   io.Reader
}

// addMessage adds the parts of a MIME message (RFC 2045, 2046).
func (d *userData) addMessage(content []byte, depth int) {
	if bytes.HasPrefix(content, []byte("From ")) { // of a mailbox
		_, content, _ = bytes.Cut(content, []byte("\n"))
	}
	message, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		d.problem("its MIME header is broken: %w", err)
		return
	}
	d.addEntity(entity{message.Header, message.Body}, depth)
}

func (d *userData) addEntity(e entity, depth int) {
	mimeType, parameters, err := mime.ParseMediaType(e.header.Get("Content-Type"))
	if err != nil {
		mimeType, parameters = "text/plain", nil // RFC 2045, 5.2
	}
	if !strings.HasPrefix(mimeType, "multipart/") {
		d.addLeaf(e, mimeType, parameters["name"], depth)
		return
	}
	// An end that is missing is forgiven, as upstream's library does it.
	ended := io.MultiReader(e.body, strings.NewReader("\r\n--"+parameters["boundary"]+"--\r\n"))
	reader := multipart.NewReader(ended, parameters["boundary"])
	for {
		next, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			d.problem("its MIME parts are broken: %w", err)
			return
		}
		if d.parts > maxParts || depth > maxNesting {
			d.problem("it has too many parts, or too many within one another")
			return
		}
		d.addEntity(entity{next.Header, next}, depth+1)
	}
}

// addLeaf decodes what is not a container and adds it. Types that stand for compression say nothing of the content.
func (d *userData) addLeaf(e entity, mimeType, filename string, depth int) {
	content, err := decodeBody(e)
	if err != nil {
		d.problem("a MIME part cannot be decoded: %w", err)
		return
	}
	if strings.HasPrefix(mimeType, "application/") && bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
		mimeType = ""
	}
	if _, disposition, err := mime.ParseMediaType(e.header.Get("Content-Disposition")); err == nil && disposition["filename"] != "" {
		filename = disposition["filename"]
	}
	mergeType := e.header.Get(mergeTypeHeader)
	if mergeType == "" {
		mergeType = e.header.Get("X-" + mergeTypeHeader)
	}
	d.addPart(part{content: content, mimeType: mimeType, filename: filename, mergeType: mergeType}, depth+1)
}

func decodeBody(e entity) ([]byte, error) {
	body := e.body
	switch encoding := strings.ToLower(strings.TrimSpace(e.header.Get("Content-Transfer-Encoding"))); encoding {
	case "", "7bit", "8bit", "binary":
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	default:
		return nil, fmt.Errorf("its encoding %.40q is not known", encoding)
	}
	content, err := io.ReadAll(io.LimitReader(body, maxDocumentBytes+1))
	if err == nil && len(content) > maxDocumentBytes {
		err = fmt.Errorf("it has more than %d bytes", maxDocumentBytes)
	}
	return content, err
}
