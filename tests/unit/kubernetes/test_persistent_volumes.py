# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest
from lightkube.resources.core_v1 import PersistentVolume

from support.claims import CHOSEN, GIB, make_bound, make_claim, make_class
from volant.contract.volume_sizes import SMALLEST_BYTES
from volant.kubernetes.persistent_volumes import (
    PATH_PREFIX,
    check_claim,
    find_volume,
    is_kept,
    is_made_here,
    is_over,
    is_wanted_here,
    make_volume,
)
from volant.kubernetes.references import Refused


def test_a_claim_is_this_nodes_where_the_scheduler_says_so() -> None:
    assert is_wanted_here(make_claim(), "host-1")
    assert not is_wanted_here(make_claim(), "host-2")
    assert not is_wanted_here(make_claim({}), "host-1")
    assert not is_wanted_here(
        make_claim({**CHOSEN, "volume.kubernetes.io/storage-provisioner": "x/y"}), "host-1"
    )
    assert not is_wanted_here(make_claim(volumeName="pvc-c0ffee"), "host-1")


def test_a_volume_lies_on_its_node_and_is_the_claims() -> None:
    claim = make_claim()
    assert check_claim(claim, make_class()) == 2 * GIB
    volume = make_volume(claim, make_class(), "host-1", 2 * GIB)
    assert volume.spec is not None
    assert volume.spec.claimRef is not None
    assert volume.spec.claimRef.uid == "c0ffee"
    assert find_volume(volume, "host-1") == "pvc-c0ffee"
    assert is_made_here(volume, "host-1")
    assert not is_made_here(volume, "host-2")
    with pytest.raises(Refused, match="no volume of this node's"):
        find_volume(volume, "host-2")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"accessModes": ["ReadWriteMany"]}, "ReadWriteMany"),
        ({"volumeMode": "Block"}, "block device"),
        ({"dataSource": {"kind": "VolumeSnapshot", "name": "old"}}, "begins empty"),
    ],
)
def test_what_no_volume_can_be_is_refused(spec: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told):
        check_claim(make_claim(**spec), make_class())


def test_parameters_are_not_dropped_in_silence_and_the_smallest_is_what_a_file_system_takes() -> None:
    with pytest.raises(Refused, match="no parameters"):
        check_claim(make_claim(), make_class(parameters={"type": "fast"}))
    assert check_claim(make_claim(resources={"requests": {"storage": "1"}}), make_class()) == SMALLEST_BYTES


def test_a_volume_made_by_hand_names_one_of_the_daemons_and_is_never_taken_away() -> None:
    document = make_bound("Released").to_dict()
    document["metadata"] = {"name": "by-hand"}
    document["spec"]["local"]["path"] = f"{PATH_PREFIX}db-data"
    volume = cast("PersistentVolume", PersistentVolume.from_dict(document))
    assert find_volume(volume, "host-1") == "db-data"
    assert not is_made_here(volume, "host-1")
    document["spec"]["local"]["path"] = "/etc"
    with pytest.raises(Refused):
        find_volume(cast("PersistentVolume", PersistentVolume.from_dict(document)), "host-1")


def test_it_goes_with_its_claim_and_is_kept_where_the_class_says_so() -> None:
    assert not is_over(make_bound())
    assert not is_over(make_bound(deleted=True)), "somebody has a claim to it"
    assert is_over(make_bound("Released"))
    assert not is_kept(make_bound("Released"))
    assert not is_over(make_bound("Released", policy="Retain"))
    given_up = make_bound("Released", policy="Retain", deleted=True)
    assert is_over(given_up)
    assert is_kept(given_up)
