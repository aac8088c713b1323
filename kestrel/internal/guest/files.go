// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/network"
	"github.com/volantvm/volant/kestrel/internal/placed"
	"github.com/volantvm/volant/kestrel/internal/secrets"
	"github.com/volantvm/volant/kestrel/internal/vsock"
)

// Between two tries to fetch a secret.
const fetchPause = 500 * time.Millisecond

// WriteNames writes the files by which the guest knows names.
func WriteNames(config *contract.GuestConfig, resolvers network.Resolvers, journal *Journal) {
	addresses := network.ToldAddresses(config.Network)
	if addresses == nil && len(config.Network.Interfaces) > 0 {
		addresses = network.Addresses()
	}
	journal.WarnError(network.RuntimeNames().Write(config.Hostname, config.Network.Hosts, addresses, resolvers))
}

func readImageConfig(path string, journal *Journal) contract.ImageConfig {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return contract.ImageConfig{}
	}
	var image contract.ImageConfig
	if err == nil {
		image, err = contract.ParseImageConfig(data)
	}
	if err != nil {
		journal.Warn("cannot use the image's configuration " + path + ": " + err.Error())
	}
	return image
}

// placeFiles mounts the VM's own files over their paths. A secret is waited for until the host has connected.
func (g *Guest) placeFiles(ctx context.Context) error {
	return placed.Place(ctx, g.config.Files, placed.Folder, g.fetchSecret)
}

// fetchSecret asks as a process of root's would. A host that goes away meanwhile (a daemon that is started anew) is
// waited for once more.
func (g *Guest) fetchSecret(ctx context.Context, port uint32) ([]byte, error) {
	for {
		if err := g.secrets.Wait(ctx, secrets.HostCID, port); err != nil {
			return nil, err
		}
		value, err := readVsock(port)
		if err == nil {
			return value, nil
		}
		g.journal.Say("cannot fetch a secret yet: %v", err)
		select {
		case <-time.After(fetchPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func readVsock(port uint32) ([]byte, error) {
	connection, err := vsock.Dial(secrets.HostCID, port)
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	return io.ReadAll(connection)
}
