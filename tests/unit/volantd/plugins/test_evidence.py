# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest

from volant.errors import InvalidInput
from volant.volantd.plugins.evidence import read_evidence


def test_evidence_that_makes_no_sense() -> None:
    assert read_evidence(io.BytesIO(b'{"reference": "r.io/a"}\nrest')).reference == "r.io/a"
    for line in (
        b"",
        b"{}",
        b"words\n",
        b'{"other": 1}\n',
        b'{"bundles_base64": ["!"]}\n',
        b"[" * 100_000 + b"\n",
    ):
        with pytest.raises(InvalidInput, match="cannot read the uploaded plugin"):
            read_evidence(io.BytesIO(line))
