// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/network"
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
