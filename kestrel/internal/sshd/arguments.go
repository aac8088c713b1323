// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"errors"
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// splitArguments splits a command by the quoting rules of POSIX shells (XCU 2.2), for guests that have none. What only
// a shell can do (expansion, redirection, lists) is an error instead of a surprise.
func splitArguments(command string) ([]string, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(command), "")
	var mistake syntax.ParseError
	switch {
	case errors.As(err, &mistake):
		return nil, errors.New(mistake.Text)
	case err != nil:
		return nil, err
	case len(file.Stmts) == 0:
		return nil, errors.New("there is nothing to run in an empty command")
	}
	statement := file.Stmts[0]
	call, simple := statement.Cmd.(*syntax.CallExpr)
	if !simple || len(file.Stmts) > 1 || len(statement.Redirs) > 0 || statement.Semicolon.IsValid() ||
		statement.Negated || len(call.Args) == 0 || len(call.Assigns) > 0 {
		return nil, needsShell(command)
	}
	arguments := make([]string, 0, len(call.Args))
	for _, word := range call.Args {
		argument, err := readWord(word)
		if err != nil {
			return nil, err
		}
		arguments = append(arguments, argument)
	}
	return arguments, nil
}

// readWord takes the quotes away.
func readWord(word *syntax.Word) (string, error) {
	var text strings.Builder
	for index, part := range word.Parts {
		switch part := part.(type) {
		case *syntax.Lit:
			if strings.HasPrefix(part.Value, "~") && index == 0 {
				return "", needsShell("~")
			}
			plain, err := unescape(part.Value)
			if err != nil {
				return "", err
			}
			text.WriteString(plain)
		case *syntax.SglQuoted:
			text.WriteString(part.Value)
		case *syntax.DblQuoted:
			for _, inner := range part.Parts {
				literal, plain := inner.(*syntax.Lit)
				if !plain {
					return "", needsShell("$")
				}
				text.WriteString(unescapeQuoted(literal.Value))
			}
		default:
			return "", needsShell("$")
		}
	}
	return text.String(), nil
}

// unescape takes backslashes outside of quotes away. Patterns would name files.
func unescape(text string) (string, error) {
	var plain strings.Builder
	for index := 0; index < len(text); index++ {
		switch char := text[index]; char {
		case '\\':
			if index++; index == len(text) {
				return "", errors.New(`a backslash at the end quotes nothing`)
			}
			if text[index] != '\n' {
				plain.WriteByte(text[index])
			}
		case '*', '?', '[':
			return "", needsShell(string(char))
		default:
			plain.WriteByte(char)
		}
	}
	return plain.String(), nil
}

// unescapeQuoted takes backslashes inside double quotes away, where only these characters can be quoted.
var unescapeQuoted = strings.NewReplacer(`\$`, `$`, "\\`", "`", `\"`, `"`, `\\`, `\`, "\\\n", "").Replace

func needsShell(what string) error {
	return fmt.Errorf("%q means nothing: quote it, or name one program and its arguments", what)
}
