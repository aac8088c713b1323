# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.contract.paths import find_runtime_dir, find_socket, find_state_dir
from volant.contract.places import RUNTIME_DIR_LIMIT
from volant.errors import InvalidInput
from volant.volantd.settings import read_settings


def test_one_folder_holds_everything_where_volant_home_is_set() -> None:
    environment = {"VOLANT_HOME": "/srv/v"}
    assert find_state_dir(environment) == Path("/srv/v")
    assert find_socket(environment) == Path("/srv/v/run/volantd.sock")
    settings = read_settings(environment)
    assert settings.socket == find_socket(environment)


def test_a_long_home_gets_a_short_socket_of_its_own() -> None:
    long = {"VOLANT_HOME": "/" + "x" * 100}
    other = {"VOLANT_HOME": "/" + "y" * 100}
    assert len(str(find_runtime_dir(long))) <= RUNTIME_DIR_LIMIT
    assert find_runtime_dir(long) != find_runtime_dir(other)


def test_all_problems_are_told_at_once_with_their_variable() -> None:
    environment = {"VOLANT_HOME": "/v", "VOLANT_LISTEN": "0.0.0.0:7777", "VOLANT_ACCELERATER": "kvm"}
    with pytest.raises(InvalidInput) as caught:
        read_settings(environment)
    text = str(caught.value)
    assert "VOLANT_LISTEN" in text
    assert "not a loopback address" in text
    assert "VOLANT_ACCELERATER" in text


@pytest.mark.parametrize("listen", ["127.0.0.1:7777", "localhost:0", "[::1]:7777"])
def test_loopback_may_be_listened_on(listen: str) -> None:
    assert read_settings({"VOLANT_HOME": "/v"}, listen=listen).listen == listen


def test_variables_of_other_programs_are_no_problem() -> None:
    read_settings({"VOLANT_HOME": "/v", "VOLANT_API_BASE": "x", "VOLANT_GO": "any", "VOLANT_TOKEN": ""})


@pytest.mark.parametrize("port", ["²", "٨٠", "65536", "-1", "", "9" * 5000])
def test_what_is_no_port_is_told(port: str) -> None:
    with pytest.raises(InvalidInput, match="is not HOST:PORT"):
        read_settings({"VOLANT_HOME": "/v"}, listen=f"127.0.0.1:{port}")
