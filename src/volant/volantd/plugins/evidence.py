# SPDX-License-Identifier: Apache-2.0
"""What a plugin comes with to be trusted for, as `contract/plugin_evidence.py` writes it."""

from __future__ import annotations

import base64
from typing import BinaryIO

from pydantic import Field, ValidationError

from volant.contract.plugin_evidence import MOST_BYTES
from volant.contract.request_values import Base64Text, RequestModel
from volant.errors import InvalidInput

MOST_SIGNATURES = 32


class Document(RequestModel):
    document_base64: Base64Text
    signature: str

    @property
    def content(self) -> bytes:
        return base64.b64decode(self.document_base64)


class Evidence(RequestModel):
    """`reference` is empty for a file or an address; `manifest` is the artifact's, byte for byte."""

    reference: str = ""
    manifest: str = ""
    documents: list[Document] = Field(default_factory=list, max_length=MOST_SIGNATURES)
    bundles_base64: list[Base64Text] = Field(default_factory=list, max_length=MOST_SIGNATURES)

    @property
    def bundles(self) -> list[bytes]:
        return [base64.b64decode(text) for text in self.bundles_base64]


def read_evidence(stream: BinaryIO) -> Evidence:
    """The line before the archive; blocking. Raises InvalidInput."""
    line = stream.readline(MOST_BYTES + 1)
    if len(line) > MOST_BYTES or not line.endswith(b"\n"):
        raise InvalidInput(
            "cannot read the uploaded plugin: the description sent with it is too long, or cut off"
        )
    try:
        return Evidence.model_validate_json(line)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5]]
        raise InvalidInput(
            "cannot read the uploaded plugin: the description sent with it is not valid", details=problems
        ) from None
