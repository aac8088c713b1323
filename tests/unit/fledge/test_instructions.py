# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from volant.fledge.instructions import read_instructions


def test_lines_continuations_comments_and_flags() -> None:
    text = (
        "# comment\nFROM debian:12 AS base\n\nRUN one && \\\n  # in between\n\n  two\n"
        "copy --from=base --chown=1:2 a b\n"
    )
    found = read_instructions(text)
    assert [(item.line, item.keyword) for item in found] == [(2, "FROM"), (4, "RUN"), (8, "COPY")]
    assert found[1].rest == "one && two"
    assert (found[2].flag("from"), found[2].flag("chown"), found[2].words()) == ("base", "1:2", ["a", "b"])


def test_here_documents_are_not_instructions() -> None:
    found = read_instructions("FROM x\nRUN <<EOF\nFROM y\nEOF\nCOPY <<-'A' <<B /z\n1\nA\n2\nB\nUSER z\n")
    assert [item.keyword for item in found] == ["FROM", "RUN", "COPY", "USER"]


def test_json_form_and_other_escape() -> None:
    found = read_instructions('# escape=`\nFROM x\nCOPY ["a b", "c"]\nRUN one `\n two\n')
    assert found[1].words() == ["a b", "c"]
    assert found[2].rest == "one two"
