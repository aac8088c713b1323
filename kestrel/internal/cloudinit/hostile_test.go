// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func zip(content []byte) []byte {
	var zipped bytes.Buffer
	writer := gzip.NewWriter(&zipped)
	_, _ = writer.Write(content)
	_ = writer.Close()
	return zipped.Bytes()
}

// makeMultipart makes a MIME document of headers and bodies.
func makeMultipart(parts ...[2]string) string {
	text := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=B\"\r\n\r\n"
	for _, part := range parts {
		text += "--=B\r\n" + part[0] + "\r\n\r\n" + part[1] + "\r\n"
	}
	return text + "--=B--\r\n"
}

func TestHostileDocumentsAreRefusedWithAReason(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for level := 'b'; level < 'j'; level++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", level, level, strings.Repeat(fmt.Sprintf("*%c,", level-1), 10))
	}
	var many [][2]string
	zeros := base64.StdEncoding.EncodeToString(zip(append([]byte("#!/bin/sh\n"), make([]byte, 4<<20)...)))
	for range 12 {
		many = append(many, [2]string{"Content-Type: application/gzip\r\nContent-Transfer-Encoding: base64", zeros})
	}
	nested := "#cloud-config\n"
	for range maxNesting + 2 {
		nested = makeMultipart([2]string{"Content-Transfer-Encoding: base64", base64.StdEncoding.EncodeToString([]byte(nested))})
	}
	parts := slices.Repeat([][2]string{{"Content-Type: text/cloud-config", "a: b"}}, maxParts+10)
	for name, testCase := range map[string][2]string{
		"aliases":              {"#cloud-config\n" + bomb, "more than 1048576 values"},
		"brackets":             {"#cloud-config\na: " + strings.Repeat("[", 1<<20), "nested more than"},
		"closed brackets":      {"#cloud-config\na: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "more than 100 deep"},
		"lists on a line":      {"#cloud-config\na:\n " + strings.Repeat("- ", 1<<20) + "x\n", "nested more than"},
		"mappings on a line":   {"#cloud-config\n" + strings.Repeat("a: ", 1<<20), "nested more than"},
		"anchors on a line":    {"#cloud-config\na: " + strings.Repeat("&a ", 1<<20), "nested more than"},
		"gzip bomb":            {string(zip(make([]byte, maxDocumentBytes+1))), "inflated it has more than"},
		"many gzip bombs":      {makeMultipart(many...), "inflated it has more than"},
		"broken gzip":          {string(zip([]byte("#cloud-config\n"))[:20]), "gzip is broken"},
		"messages in messages": {nested, "too many parts"},
		"many parts":           {makeMultipart(parts...), "too many parts"},
		"archive of archives": {"#cloud-config-archive\n- |\n  #cloud-config-archive\n  - content: [a]\n" +
			"- 5\n- {content: {}}\n", "neither a text nor a mapping"},
		"an unknown encoding": {makeMultipart([2]string{"Content-Type: text/cloud-config\r\nContent-Transfer-Encoding: uuencode", "a: b"}),
			`encoding "uuencode" is not known`},
		"broken base64": {makeMultipart([2]string{"Content-Transfer-Encoding: base64", "!!!"}), "cannot be decoded"},
		"a script that is none": {makeMultipart([2]string{"Content-Type: text/x-shellscript-per-boot", "echo"}),
			"has no #! line"},
		"an unknown type": {makeMultipart([2]string{"Content-Type: application/x-thing\r\nContent-Disposition: attachment; filename=\"../a b\"", "x"}),
			"its part .._ab (application/x-thing)"},
	} {
		data := parseUserData([]byte(testCase[0]))
		if !slices.ContainsFunc(data.problems, func(err error) bool { return strings.Contains(err.Error(), testCase[1]) }) {
			t.Errorf("%s: problems %.300v", name, data.problems)
		}
		if len(data.problems) > maxParts {
			t.Errorf("%s: %d problems", name, len(data.problems))
		}
		if data.bytes > maxDocumentBytes {
			t.Errorf("%s: %d bytes", name, data.bytes)
		}
	}
}

func TestMultiPartAsMailersAndPeopleWriteIt(t *testing.T) {
	config := [2]string{"Content-Type: text/cloud-config; charset=\"us-ascii\"", "hostname: a"}
	whole := makeMultipart(config)
	for name, document := range map[string]string{
		"as it is":                  whole,
		"line ends of this system":  strings.ReplaceAll(whole, "\r\n", "\n"),
		"no end":                    strings.TrimSuffix(whole, "--=B--\r\n"),
		"other headers first":       "Subject: x\r\nFrom: y\r\n" + whole,
		"of a mailbox":              "From nobody Fri Jan  1 00:00:00 2027\n" + strings.ReplaceAll(whole, "\r\n", "\n"),
		"blank lines above":         "\n\n" + whole,
		"a preamble":                strings.Replace(whole, "\r\n\r\n", "\r\n\r\nThis is MIME.\r\n", 1),
		"folded and in lower case":  strings.Replace(whole, "Content-Type: multipart/mixed; boundary", "content-type: multipart/mixed;\r\n boundary", 1),
		"one part, no multipart":    "Content-Type: text/cloud-config\nMIME-Version: 1.0\n\nhostname: a\n",
		"by its content":            makeMultipart([2]string{"Content-Type: text/plain", "#cloud-config\r\nhostname: a"}),
		"a shellscript in name":     makeMultipart([2]string{"Content-Type: text/x-shellscript", "#cloud-config\nhostname: a"}),
		"without a type":            makeMultipart([2]string{"X: y", "#Cloud-Config\nhostname: a"}),
		"quoted-printable":          makeMultipart([2]string{"Content-Type: text/cloud-config\r\nContent-Transfer-Encoding: Quoted-Printable", "hostname=3A a"}),
		"gzip in it":                makeMultipart([2]string{"Content-Type: application/x-gzip\r\nContent-Transfer-Encoding: base64", base64.StdEncoding.EncodeToString(zip([]byte("#cloud-config\nhostname: a")))}),
		"multipart in it":           makeMultipart([2]string{"Content-Type: multipart/mixed; boundary=inner", "--inner\r\n" + config[0] + "\r\n\r\n" + config[1] + "\r\n--inner--"}),
		"an archive":                "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    hostname: a\n",
		"an archive of plain text":  "#cloud-config-archive\n- \"#cloud-config\\nhostname: a\"\n",
		"an archive without a type": "#cloud-config-archive\n- content: 'hostname: a'\n",
	} {
		data := parseUserData([]byte(document))
		if len(data.problems) > 0 || data.config["hostname"] != "a" {
			t.Errorf("%s: config %v, problems %v", name, data.config, data.problems)
		}
	}
}

func TestScriptsRunInUpstreamsOrder(t *testing.T) {
	g := newGuest(t)
	script := func(name, kind string) [2]string {
		return [2]string{"Content-Type: text/x-shellscript" + kind + "\r\nContent-Disposition: attachment; filename=\"" + name + "\"",
			"#!/bin/sh\r\necho " + name + " >> " + g.root + "/out\r\n"}
	}
	document := makeMultipart(script("z", ""), script("b", "-per-instance"), script("a", "-per-instance"), script("m", "-per-boot"),
		script("k", "-per-once"), script("a", ""), [2]string{"Content-Type: text/cloud-config", "runcmd: ['echo runcmd >> " + g.root + "/out']"})
	g.bootWell(document)
	if got, want := g.read("/out"), "k\nm\na\nb\na\nruncmd\nz\n"; got != want {
		t.Errorf("first boot: %q, want %q", got, want)
	}
	g.write("/out", "")
	g.bootWell(document)
	if got := g.read("/out"); got != "m\n" {
		t.Errorf("second boot: %q", got)
	}
	g.write("/out", "")
	_, _ = g.bootAs("another", document)
	if got, want := g.read("/out"), "m\na\nb\na\nruncmd\nz\n"; got != want {
		t.Errorf("another instance: %q, want %q", got, want)
	}
}

func TestReportsAreBounded(t *testing.T) {
	g := newGuest(t)
	var document strings.Builder
	document.WriteString("#cloud-config\n" + strings.Repeat("y", 5000) + ": 1\nwrite_files:\n")
	for range 1000 {
		document.WriteString(" - {path: relative}\n")
	}
	for number := range 1000 {
		fmt.Fprintf(&document, "x%d: 1\n", number)
	}
	_, state := g.boot(document.String())
	for name, list := range map[string][]string{"errors": state.Errors, "unknown": state.UnknownModules} {
		if len(list) != maxReports+1 || list[maxReports] != "and more" {
			t.Errorf("%d %s, the last %q", len(list), name, list[len(list)-1])
		}
		for _, text := range list {
			if len(text) > maxReportBytes+10 {
				t.Errorf("%s: %d bytes", name, len(text))
			}
		}
	}
}

func TestContentThatInflatesWithoutEndIsNotWritten(t *testing.T) {
	needRoot(t)
	g := newGuest(t)
	content := base64.StdEncoding.EncodeToString(zip(make([]byte, maxDocumentBytes+1)))
	_, state := g.boot("#cloud-config\nwrite_files: [{path: /big, encoding: gz+b64, content: " + content + "}]\n")
	if len(state.Errors) != 1 || !strings.Contains(state.Errors[0], "bytes inflated") {
		t.Errorf("errors %q", state.Errors)
	}
}
