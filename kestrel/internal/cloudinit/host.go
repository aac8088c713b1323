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
	host, _ := hostnames(config)
	if host == "" || strings.ContainsAny(host, " \t\n/") || len(host) > 64 {
		return fmt.Errorf("%q is no name for a host", host)
	}
	if err := r.options.SetHostname(host); err != nil {
		return fmt.Errorf("cannot set the name of the host: %w", err)
	}
	return replaceFile(r.path("/etc/hostname"), []byte(host+"\n"), 0o644)
}

// applyHosts makes the guest's own names resolve. Both true and localhost end in the same line here, because the agent
// writes the rest of /etc/hosts itself.
func (r *Runner) applyHosts(_ context.Context, config fields) error {
	value := config["manage_etc_hosts"]
	if text, ok := value.(string); !asBool(value, false) && (!ok || (text != "localhost" && text != "template")) {
		return nil
	}
	host, fqdn := hostnames(config)
	if host == "" {
		content, err := os.ReadFile(r.path("/etc/hostname"))
		if err != nil {
			return fmt.Errorf("cannot tell the name of the host: %w", err)
		}
		host = strings.TrimSpace(string(content))
	}
	if strings.ContainsAny(host+fqdn, " \t\n") {
		return fmt.Errorf("%q is no name for a host", host+" "+fqdn)
	}
	names := strings.TrimSpace(fqdn + " " + host)
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

// growPartition has nothing left to do: the root disk has no partitions and the boot has grown its file system.
func (r *Runner) growPartition(context.Context, fields) error { return nil }

// applyNTP writes the servers for the client that the image has. With none the agent keeps the clock by the host's.
func (r *Runner) applyNTP(_ context.Context, config fields) error {
	if config["ntp"] == nil {
		return nil
	}
	settings, ok := asFields(config["ntp"])
	if !ok {
		return fmt.Errorf("it is a mapping, not %T", config["ntp"])
	}
	if !asBool(settings.get("enabled"), true) {
		return nil
	}
	servers, err := asTexts(settings.get("servers"))
	if err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	pools, err := asTexts(settings.get("pools"))
	if err != nil {
		return fmt.Errorf("pools: %w", err)
	}
	var lines strings.Builder
	for _, server := range servers {
		fmt.Fprintf(&lines, "server %s iburst\n", server)
	}
	for _, pool := range pools {
		fmt.Fprintf(&lines, "pool %s iburst\n", pool)
	}
	for _, client := range []struct{ program, path, content string }{
		{"/usr/sbin/chronyd", "/etc/chrony/sources.d/cloud-init.sources", lines.String()},
		{"/usr/sbin/ntpd", "/etc/ntp.conf", lines.String()},
		{
			"/lib/systemd/systemd-timesyncd", "/etc/systemd/timesyncd.conf.d/cloud-init.conf",
			"[Time]\nNTP=" + strings.Join(append(servers, pools...), " ") + "\n",
		},
	} {
		if _, err := os.Stat(r.path(client.program)); err != nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(r.path(client.path)), 0o755); err != nil {
			return err
		}
		return replaceFile(r.path(client.path), []byte(client.content), 0o644)
	}
	r.options.Logf("cloud-init: ntp: this image has no client for it; the clock follows the host's")
	return nil
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
