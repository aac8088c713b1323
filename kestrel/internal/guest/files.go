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

const (
	fetchPause = 100 * time.Millisecond // between two tries to fetch a secret
	emptyTries = 30
)

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
	return placed.Place(ctx, g.config.Files, placed.Folder, placed.DiskFolder, g.fetchSecret)
}

// fetchSecret asks as a process of root's would. The port opens here a moment before the host knows that it is open, and
// a daemon may go while it answers: both look like an empty answer, which is believed only when it stays so.
func (g *Guest) fetchSecret(ctx context.Context, port uint32) ([]byte, error) {
	for tries := 1; ; tries++ {
		if err := g.secrets.Wait(ctx, secrets.HostCID, port); err != nil {
			return nil, err
		}
		value, err := readVsock(port)
		if err == nil && (len(value) > 0 || tries == emptyTries) {
			return value, nil
		}
		if err != nil && tries == 1 {
			g.journal.Say("cannot fetch a secret yet: %v", err)
		}
		select {
		case <-time.After(fetchPause):
		case <-ctx.Done():
			return nil, ctx.Err()
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
