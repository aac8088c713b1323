// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"errors"
	"fmt"
	"strings"
)

// splitArguments splits a command by the quoting rules of POSIX shells (XCU 2.2), for guests that have none. What only
// a shell can do (expansion, redirection, lists) is an error instead of a surprise.
func splitArguments(command string) ([]string, error) {
	var arguments []string
	var word strings.Builder
	inWord := false
	finish := func() {
		if inWord {
			arguments = append(arguments, word.String())
			word.Reset()
			inWord = false
		}
	}
	for index := 0; index < len(command); index++ {
		char := command[index]
		switch {
		case char == ' ' || char == '\t' || char == '\n':
			finish()
		case char == '\'':
			end := strings.IndexByte(command[index+1:], '\'')
			if end < 0 {
				return nil, errors.New("a quote (') stays open")
			}
			word.WriteString(command[index+1 : index+1+end])
			index += end + 1
			inWord = true
		case char == '"':
			inWord = true
			closed := false
			for index++; index < len(command); index++ {
				if command[index] == '"' {
					closed = true
					break
				}
				if command[index] == '\\' && index+1 < len(command) && strings.IndexByte("$`\"\\\n", command[index+1]) >= 0 {
					index++
					if command[index] == '\n' {
						continue
					}
				} else if command[index] == '$' || command[index] == '`' {
					return nil, needsShell(command[index])
				}
				word.WriteByte(command[index])
			}
			if !closed {
				return nil, errors.New(`a quote (") stays open`)
			}
		case char == '\\':
			if index++; index == len(command) {
				return nil, errors.New(`a backslash at the end quotes nothing`)
			}
			if command[index] != '\n' {
				word.WriteByte(command[index])
				inWord = true
			}
		case strings.IndexByte("|&;<>()$`*?[", char) >= 0, !inWord && (char == '#' || char == '~'):
			return nil, needsShell(char)
		default:
			word.WriteByte(char)
			inWord = true
		}
	}
	finish()
	if len(arguments) == 0 {
		return nil, errors.New("there is nothing to run in an empty command")
	}
	return arguments, nil
}

func needsShell(char byte) error {
	return fmt.Errorf("%q means nothing: quote it, or name one program and its arguments", string(char))
}
