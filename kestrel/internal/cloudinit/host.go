// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// agentVersion stands for upstream's version in a final message.
const agentVersion = "kestrel"

// hostnames is upstream's get_hostname_fqdn.
func hostnames(config fields) (host, fqdn string) {
	host, fqdn = config.text("hostname"), config.text("fqdn")
	if fqdn == "" && strings.Contains(host, ".") {
		fqdn = host
		host = ""
	}
	if host == "" {
		host, _, _ = strings.Cut(fqdn, ".")
	}
	return host, fqdn
}

// applyHostname runs at every boot: the agent's own start has set the name that the VM was created with.
func (r *Runner) applyHostname(_ context.Context, config fields) error {
	host, fqdn := hostnames(config)
	if asBool(config["preserve_hostname"], false) || host+fqdn == "" {
		return nil
	}
	name := host
	if asBool(config["prefer_fqdn_over_hostname"], false) && fqdn != "" {
		name = fqdn
	}
	if !isHostname(name) {
		return fmt.Errorf("%q is no name for a host", name)
	}
	if err := r.options.SetHostname(name); err != nil {
		return fmt.Errorf("cannot set the name of the host: %w", err)
	}
	path := r.path("/etc/hostname")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !asBool(config["create_hostname_file"], true) {
		return nil
	}
	return replaceFile(path, []byte(name+"\n"), 0o644)
}

func isHostname(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsAny(name, " \t\r\n/#\x00")
}

// applyHosts makes the guest's own names resolve. Both true and localhost end in the same line here, because the agent
// writes the rest of /etc/hosts itself. Where the document says nothing of the file, only a name that it has given the
// host is added, without which sudo would not know the machine that it runs on.
func (r *Runner) applyHosts(_ context.Context, config fields) error {
	value, asked := config["manage_etc_hosts"]
	text, isText := value.(string)
	manage := asBool(value, false) || (isText && (text == "localhost" || text == "template"))
	if asked && !manage {
		return nil
	}
	host, fqdn := hostnames(config)
	if !manage && (asBool(config["preserve_hostname"], false) || host+fqdn == "") {
		return nil
	}
	if host == "" {
		host = readText(r.path("/etc/hostname"))
	}
	if !isHostname(host) || (fqdn != "" && !isHostname(fqdn)) {
		return fmt.Errorf("%q is no name for a host", strings.TrimSpace(host+" "+fqdn))
	}
	names := host
	if fqdn != "" && fqdn != host {
		names = fqdn + " " + host
	}
	path := r.path("/etc/hosts")
	_, output, err := readWithout(path, func(line string) bool {
		words := strings.Fields(line)
		return len(words) > 0 && words[0] == "127.0.1.1"
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(output, "127.0.1.1 %s\n", names)
	return replaceFile(path, output.Bytes(), 0o644)
}

func (r *Runner) applyTimezone(_ context.Context, config fields) error {
	zone, err := asText(config["timezone"])
	if err != nil {
		return err
	}
	source := filepath.Join("/usr/share/zoneinfo", zone)
	if !strings.HasPrefix(source, "/usr/share/zoneinfo/") {
		return fmt.Errorf("%q is no time zone", zone)
	}
	if info, err := os.Stat(r.path(source)); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("this image has no time zone %q (package tzdata)", zone)
	}
	local := r.path("/etc/localtime")
	if err := os.Remove(local); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(source, local); err != nil {
		return err
	}
	return replaceFile(r.path("/etc/timezone"), []byte(zone+"\n"), 0o644)
}

func (r *Runner) sayFinalMessage(_ context.Context, config fields) error {
	message, err := asText(config["final_message"])
	if err != nil {
		return err
	}
	uptime, _, _ := strings.Cut(readText("/proc/uptime"), " ")
	now := time.Now().UTC().Format(time.RFC1123Z)
	for _, variable := range []struct{ name, value string }{
		{"version", agentVersion}, {"timestamp", now}, {"datasource", "DataSourceNoCloud"}, {"uptime", uptime},
	} {
		for _, name := range []string{variable.name, strings.ToUpper(variable.name)} {
			for _, form := range []string{"$" + name, "${" + name + "}", "{{" + name + "}}", "{{ " + name + " }}"} {
				message = strings.ReplaceAll(message, form, variable.value)
			}
		}
	}
	for line := range strings.Lines(message) {
		r.options.Logf("cloud-init: %s", strings.TrimRight(line, "\n"))
	}
	return nil
}

func readText(path string) string {
	content, _ := os.ReadFile(path)
	return strings.TrimSpace(string(content))
}

// readWithout reads a table of lines, which may be missing: as it is, and without the lines that an earlier boot wrote.
func readWithout(path string, isOurs func(line string) bool) ([]byte, *bytes.Buffer, error) {
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	kept := new(bytes.Buffer)
	for line := range strings.Lines(string(content)) {
		if !isOurs(line) {
			kept.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	return content, kept, nil
}

// replaceFile writes a file anew, or in place where it is a mount of its own that no rename can replace.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	temporary := path + ".kestrel"
	err := os.WriteFile(temporary, content, mode)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		return nil
	}
	_ = os.Remove(temporary)
	return os.WriteFile(path, content, mode)
}
