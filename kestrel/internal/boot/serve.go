// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/power"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// serve runs the workload until somebody asks for the end.
func serve(guest *contract.GuestConfig, warnings *Warnings, stamps *stamps) error {
	requests := power.NewRequests()
	children, err := reaper.Start()
	if err != nil {
		return err
	}
	image := readImageConfig(warnings)
	command := append(append([]string(nil), image.Entrypoint...), image.Cmd...)
	var process *reaper.Process
	if len(command) > 0 {
		process, err = children.Start(reaper.Command{Path: command[0], Arguments: command, Env: image.Env, Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err != nil {
			warnings.AddError(err)
		}
	}
	stamps.finish("start")
	request := <-requests
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	power.Orderly{Workload: func(ctx context.Context) {
		if process == nil {
			return
		}
		_ = process.SignalGroup(15)
		_ = process.Signal(15)
		select {
		case <-process.Done():
		case <-ctx.Done():
		}
	}}.Run(ctx, request.Action)
	return nil
}

func readImageConfig(warnings *Warnings) contract.ImageConfig {
	var image contract.ImageConfig
	data, err := os.ReadFile(contract.ImageConfigPath)
	if os.IsNotExist(err) {
		return image
	}
	if err == nil {
		err = json.Unmarshal(data, &image)
	}
	if err != nil {
		warnings.Add("cannot use the image's configuration " + contract.ImageConfigPath + ": " + err.Error())
	}
	return image
}
