# SPDX-License-Identifier: Apache-2.0
"""The command line's way to the daemon is the SDK's client."""

from volant.client.client import Client, encode_query, has_gone_away, quoted, read_error

__all__ = ["Client", "encode_query", "has_gone_away", "quoted", "read_error"]
