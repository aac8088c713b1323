// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/volantvm/volant/kestrel/internal/passwd"
)

const (
	defaultFileMode = 0o644
	newFolderMode   = 0o755
)

func (r *Runner) writeFiles(_ context.Context, config fields) error {
	return r.writeSome(config, false)
}

// writeDeferredFiles writes the files that want users and packages to be there first.
func (r *Runner) writeDeferredFiles(_ context.Context, config fields) error {
	return r.writeSome(config, true)
}

func (r *Runner) writeSome(config fields, deferred bool) error {
	list, ok := config["write_files"].([]any)
	if !ok {
		return fmt.Errorf("it is a list of files, not %T", config["write_files"])
	}
	var problems []error
	for index, item := range list {
		file, ok := asFields(item)
		if !ok {
			if !deferred {
				problems = append(problems, fmt.Errorf("file %d is not a mapping", index+1))
			}
			continue
		}
		if asBool(file.get("defer"), false) != deferred {
			continue
		}
		if err := r.writeFile(file); err != nil {
			problems = append(problems, fmt.Errorf("file %d (%s): %w", index+1, file.text("path"), err))
		}
	}
	return errors.Join(problems...)
}

func (r *Runner) writeFile(file fields) error {
	path := file.text("path")
	if !filepath.IsAbs(path) {
		return errors.New("path is not absolute")
	}
	if !isEmpty(file.get("source")) && !file.has("content") {
		return errors.New("source is not supported by this agent: put the content here")
	}
	text, err := asText(file.get("content"))
	if err != nil {
		return fmt.Errorf("content: %w", err)
	}
	encoding := strings.ToLower(strings.TrimSpace(file.text("encoding")))
	content, err := decodeContent(text, encoding)
	if err != nil {
		return err
	}
	mode, err := fileMode(file.get("permissions"))
	if err != nil {
		return err
	}
	uid, gid := 0, 0
	if owner := file.text("owner"); owner != "" {
		if uid, gid, err = r.findOwner(owner); err != nil {
			return err
		}
	}
	path = r.path(path)
	if err := os.MkdirAll(filepath.Dir(path), newFolderMode); err != nil {
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if asBool(file.get("append"), false) {
		flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	output, err := os.OpenFile(path, flags, mode)
	if err != nil {
		return err
	}
	_, err = output.Write(content)
	// The owner before the mode: a change of owner takes the setuid bit away.
	if err == nil && (os.Getuid() == 0 || uid != 0 || gid != 0) {
		err = output.Chown(uid, gid)
	}
	if err == nil {
		err = output.Chmod(mode)
	}
	if !knownEncodings[encoding] {
		err = errors.Join(err, fmt.Errorf("encoding %q is not known: the content is written as it is", encoding))
	}
	return errors.Join(err, output.Close())
}

// knownEncodings are upstream's; content of any other it writes as it is, and says so.
var knownEncodings = map[string]bool{
	"": true, "text/plain": true, "b64": true, "base64": true, "gz": true, "gzip": true,
	"gz+b64": true, "gz+base64": true, "gzip+b64": true, "gzip+base64": true,
}

// fileMode reads octal digits as text, and as the number that YAML 1.1 makes of 0644.
func fileMode(value any) (os.FileMode, error) {
	var bits uint64
	switch value := value.(type) {
	case nil:
		bits = defaultFileMode
	case uint64:
		bits = value
	case string:
		parsed, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(value), "0o"), 8, 32)
		if err != nil {
			return 0, fmt.Errorf("permissions %q are not octal", value)
		}
		bits = parsed
	default:
		return 0, fmt.Errorf("permissions %v are not octal", value)
	}
	if bits > 0o7777 {
		return 0, fmt.Errorf("permissions %o do not exist", bits)
	}
	mode := os.FileMode(bits & 0o777)
	for bit, flag := range map[uint64]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode, nil
}

func decodeContent(text, encoding string) ([]byte, error) {
	content := []byte(text)
	if encoding == "text/plain" || !knownEncodings[encoding] {
		return content, nil
	}
	if strings.HasSuffix(encoding, "b64") || strings.HasSuffix(encoding, "base64") {
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			return nil, fmt.Errorf("content is not base64: %w", err)
		}
		content = decoded
	}
	if !strings.HasPrefix(encoding, "gz") {
		return content, nil
	}
	reader, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("content is not gzip: %w", err)
	}
	inflated, err := io.ReadAll(io.LimitReader(reader, maxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("content is not gzip: %w", err)
	}
	if len(inflated) > maxDocumentBytes {
		return nil, fmt.Errorf("content has more than %d bytes inflated", maxDocumentBytes)
	}
	return inflated, nil
}

// findOwner reads "user:group", each a name or a number of this guest; a group left out is root's.
func (r *Runner) findOwner(owner string) (uid, gid int, err error) {
	user, group, hasGroup := strings.Cut(owner, ":")
	if user != "" {
		account, err := passwd.Lookup(r.options.Root, user)
		if err != nil {
			return 0, 0, err
		}
		uid = int(account.UID)
	}
	if hasGroup && group != "" {
		number, err := passwd.LookupGroup(r.options.Root, group)
		if err != nil {
			return 0, 0, err
		}
		gid = int(number)
	}
	return uid, gid, nil
}
