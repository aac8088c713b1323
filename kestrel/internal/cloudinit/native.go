// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Where the image's cloud-init looks for a NoCloud seed and writes what came of it.
const (
	seedFolder = "/var/lib/cloud/seed/nocloud"
	ownConfig  = "/etc/cloud/cloud.cfg.d/99_volant.cfg"
	resultFile = "/run/cloud-init/result.json"
)

// The agent has brought the network up, and no other datasource can be there: looking for one costs minutes.
const ownConfigText = `# Written by kestrel at every boot.
datasource_list: [NoCloud, None]
network: {config: disabled}
`

// Upstream's stages. Processes start after the third; the last one does what may take long (packages, runcmd).
var stages = [][]string{
	{"init", "--local"},
	{"init"},
	{"modules", "--mode=config"},
	{"modules", "--mode=final"},
}

// findCloudInit is the image's own cloud-init, or empty.
func (r *Runner) findCloudInit() string {
	for _, path := range []string{"/usr/bin/cloud-init", "/usr/local/bin/cloud-init"} {
		if info, err := os.Stat(r.path(path)); err == nil && info.Mode().Perm()&0o111 != 0 {
			return r.path(path)
		}
	}
	return ""
}

// runNative lets the image's cloud-init do the work, its final stage in the background.
func (r *Runner) runNative(ctx context.Context, program string, document []byte) {
	if err := r.writeSeed(document); err != nil {
		r.fail("cloud-init", fmt.Errorf("cannot write its seed: %w", err))
		r.finish()
		return
	}
	for _, stage := range stages[:3] {
		r.runStage(ctx, program, stage)
	}
	if r.findKeys() {
		r.noteKeys()
	}
	go func() {
		r.runStage(ctx, program, stages[3])
		r.readResult()
		r.finish()
	}()
}

// runStage ignores exit codes of the stages' modules: result.json tells what matters (code 1 is not fatal).
func (r *Runner) runStage(ctx context.Context, program string, stage []string) {
	name := "cloud-init " + stage[len(stage)-1]
	if err := r.runProgram(ctx, name, append([]string{program}, stage...)); err != nil {
		r.options.Logf("cloud-init: %s: %v", name, err)
	}
}

func (r *Runner) writeSeed(document []byte) error {
	documents := r.options.Documents
	metadata := documents.MetaData
	if metadata == "" {
		metadata = fmt.Sprintf("instance-id: %q\n", documents.InstanceID)
	}
	if inflated, err := inflate(document, maxDocumentBytes); err == nil {
		document = trimAboveHeader(inflated)
	}
	files := map[string]string{
		filepath.Join(seedFolder, "user-data"): string(document),
		filepath.Join(seedFolder, "meta-data"): metadata,
		ownConfig:                              ownConfigText,
	}
	if documents.NetworkConfig != "" {
		files[filepath.Join(seedFolder, "network-config")] = documents.NetworkConfig
	}
	for path, content := range files {
		path = r.path(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	// Of an earlier boot, where /run is part of the disk.
	_ = os.Remove(r.path(resultFile))
	return nil
}

// readResult reports what cloud-init says of itself.
func (r *Runner) readResult() {
	content, err := os.ReadFile(r.path(resultFile))
	if err != nil {
		r.fail("cloud-init", fmt.Errorf("it ended without a result; see /var/log/cloud-init.log"))
		return
	}
	var result struct {
		V1 struct {
			Errors []string `json:"errors"`
		} `json:"v1"`
	}
	if err := json.Unmarshal(content, &result); err != nil {
		r.fail("cloud-init", fmt.Errorf("its result cannot be read: %w", err))
		return
	}
	for _, text := range result.V1.Errors {
		r.update(func(state *contract.CloudInitState) { state.Errors = addReport(state.Errors, text) })
	}
}

// findKeys looks for authorized_keys of the image's accounts, by which keys given by cloud-init show.
func (r *Runner) findKeys() bool {
	for _, pattern := range []string{"/root/.ssh/authorized_keys", "/home/*/.ssh/authorized_keys"} {
		matches, _ := filepath.Glob(r.path(pattern))
		for _, match := range matches {
			if info, err := os.Stat(match); err == nil && info.Size() > 0 {
				return true
			}
		}
	}
	return false
}
