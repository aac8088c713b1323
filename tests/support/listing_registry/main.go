// SPDX-License-Identifier: Apache-2.0

// Command registry serves the registry of go-containerregistry on loopback; it lists referrers. Blobs lie in the folder
// that it is given, manifests in its memory.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	blobs := registry.NewDiskBlobHandler(os.Args[1])
	handler := registry.New(registry.WithBlobHandler(blobs), registry.WithReferrersSupport(true))
	log.Fatal(http.Serve(listener, handler))
}
