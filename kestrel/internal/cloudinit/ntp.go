// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ntpClient is a program that keeps the clock, and how it is told its servers.
type ntpClient struct {
	names   []string // upstream's for it
	program string
	path    string
	render  func(servers, pools []string) string
}

var ntpClients = []ntpClient{
	{[]string{"chrony"}, "/usr/sbin/chronyd", "/etc/chrony/sources.d/cloud-init.sources", renderSources},
	{[]string{"ntp", "ntpdate", "openntpd"}, "/usr/sbin/ntpd", "/etc/ntp.conf", renderSources},
	{
		[]string{"systemd-timesyncd"}, "/lib/systemd/systemd-timesyncd", "/etc/systemd/timesyncd.conf.d/cloud-init.conf",
		func(servers, pools []string) string {
			return "[Time]\nNTP=" + strings.Join(append(servers, pools...), " ") + "\n"
		},
	},
}

func renderSources(servers, pools []string) string {
	var lines strings.Builder
	for _, server := range servers {
		fmt.Fprintf(&lines, "server %s iburst\n", server)
	}
	for _, pool := range pools {
		fmt.Fprintf(&lines, "pool %s iburst\n", pool)
	}
	return lines.String()
}

// applyNTP writes the servers for the client that the image has. Nothing here installs one, and without one nobody
// asks those servers: the agent keeps the clock by the host's.
func (r *Runner) applyNTP(_ context.Context, config fields) error {
	settings, ok := asFields(config["ntp"])
	if !ok && config["ntp"] != nil {
		return fmt.Errorf("it is a mapping, not %T", config["ntp"])
	}
	if !asBool(settings.get("enabled"), true) {
		return nil
	}
	servers, err := readServers(settings, "servers")
	if err != nil {
		return err
	}
	pools, err := readServers(settings, "pools")
	if err != nil {
		return err
	}
	wanted := settings.text("ntp_client")
	for _, client := range ntpClients {
		if wanted != "" && wanted != "auto" && !slices.Contains(client.names, wanted) {
			continue
		}
		if _, err := os.Stat(r.path(client.program)); err != nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(r.path(client.path)), 0o755); err != nil {
			return err
		}
		return replaceFile(r.path(client.path), []byte(client.render(servers, pools)), 0o644)
	}
	if wanted == "" || wanted == "auto" {
		wanted = "client for it (chrony, ntpd, systemd-timesyncd)"
	}
	return fmt.Errorf("this image has no %s: the servers are not asked, and the clock follows the host's", wanted)
}

func readServers(settings fields, key string) ([]string, error) {
	names, err := asTexts(settings.get(key))
	for _, name := range names {
		if strings.ContainsAny(name, " \t\r\n") {
			err = errors.Join(err, fmt.Errorf("%q is no name for a server", name))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return names, nil
}
