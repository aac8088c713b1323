// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// CheckMain is `kestrel check-config FILE`: problems as JSON lines on stdout; 0: none, 1: some, 2: cannot read.
func CheckMain(arguments []string, stdout, stderr io.Writer) int {
	if len(arguments) != 1 {
		fmt.Fprintln(stderr, "usage: kestrel check-config FILE")
		return 2
	}
	data, err := os.ReadFile(arguments[0])
	if err != nil {
		fmt.Fprintf(stderr, "cannot check the config: %v\n", err)
		return 2
	}
	_, problems := Parse(arguments[0], data)
	encoder := json.NewEncoder(stdout)
	encoder.SetEscapeHTML(false)
	for _, problem := range problems {
		if err := encoder.Encode(problem); err != nil {
			return 2
		}
	}
	if len(problems) > 0 {
		return 1
	}
	return 0
}
