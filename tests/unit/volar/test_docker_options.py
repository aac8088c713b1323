# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from unit.volar.conftest import Volar
from volant.errors import UsageError
from volant.volar.docker_options import (
    NOT_NEEDED,
    NOT_NEEDED_FLAGS,
    REFUSED,
    REFUSED_FLAGS,
    translate_network,
)

# A plugin that is not there: what is taken leads on to a source that is not found.
NOWHERE = "./nowhere"


@pytest.mark.parametrize("names", [*REFUSED_FLAGS, *REFUSED])
def test_what_means_something_else_here_is_answered_in_one_line(volar: Volar, names: str) -> None:
    for name in names.split("/"):
        value = [] if names in REFUSED_FLAGS else ["value"]
        done = volar("run", name, *value, NOWHERE)
        assert done.exit_code == 2
        assert done.err == f"error: volar run has no {names.split('/')[-1]}\ntry: {ALL[names]}\n"


ALL = {**REFUSED_FLAGS, **REFUSED}


@pytest.mark.parametrize("names", [*NOT_NEEDED_FLAGS, *NOT_NEEDED])
def test_what_is_not_needed_is_noted_and_the_rest_of_the_line_works(volar: Volar, names: str) -> None:
    value = [] if names in NOT_NEEDED_FLAGS else ["value"]
    done = volar("run", names.split("/")[-1], *value, NOWHERE)
    assert done.exit_code == 4
    assert done.err.startswith(f"note: {names.split('/')[-1]} is not needed")


def test_together_they_are_answered_too(volar: Volar) -> None:
    assert "standard input is none" in volar("run", "-it", "--rm", NOWHERE, "sh").err
    assert "leave --foreground out" in volar("run", "-i", "--foreground", NOWHERE).err
    assert volar("run", "--rm", "-d", NOWHERE).exit_code == 2
    assert "add -d" in volar("run", "--restart", "always", NOWHERE).err
    assert volar("run", "-d", "--restart", "always", NOWHERE).exit_code == 4


def test_networks_of_docker() -> None:
    assert translate_network(None) is None
    assert translate_network("bridge") is None
    assert translate_network("none") == "vsock"
    assert translate_network("user") == "user"
    with pytest.raises(UsageError, match="--network host"):
        translate_network("host")
