# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import InvalidInput
from volant.fledge.image import make_image_config


def test_an_empty_config_is_all_defaults() -> None:
    for document in ({}, {"config": None}, {"config": {"Env": None, "Labels": None, "Healthcheck": None}}):
        config, labels = make_image_config(document)
        assert (config.entrypoint, config.env, config.healthcheck, labels) == ([], [], None, {})
        assert config.architecture == "amd64"


def test_sets_are_lists_in_order() -> None:
    config, _ = make_image_config(
        {"config": {"ExposedPorts": {"9/udp": {}, "80/tcp": {}}, "Volumes": {"/b": {}, "/a": {}}}}
    )
    assert (config.exposed_ports, config.volumes) == (["80/tcp", "9/udp"], ["/a", "/b"])


def test_a_healthcheck_that_was_switched_off_is_none() -> None:
    assert make_image_config({"config": {"Healthcheck": {"Test": ["NONE"]}}})[0].healthcheck is None
    health = make_image_config({"config": {"Healthcheck": {"Test": ["CMD", "x"], "StartPeriod": 5}}})[
        0
    ].healthcheck
    assert health is not None and (health.test, health.start_period, health.timeout) == (["CMD", "x"], 5, 0)


def test_other_systems_are_refused() -> None:
    with pytest.raises(InvalidInput, match="for windows"):
        make_image_config({"os": "windows"})


def test_a_label_without_a_value_is_empty() -> None:
    assert make_image_config({"config": {"Labels": {"a": None, "b": 1}}})[1] == {"a": "", "b": "1"}


@pytest.mark.parametrize(
    "config",
    [
        {"Env": ["A=b\0c"]}, {"Entrypoint": ["/a\0"]}, {"Cmd": ["/a", "\0"]}, {"WorkingDir": "/\0"},
        {"User": "a\0"}, {"Volumes": {"/v\0": {}}}, {"StopSignal": "SIGTERM\0"},
        {"Healthcheck": {"Test": ["CMD", "a\0b"]}},
    ],
)  # fmt: skip
def test_texts_that_end_early_for_the_kernel_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="holds a NUL character"):
        make_image_config({"config": config})
