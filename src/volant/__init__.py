# SPDX-License-Identifier: Apache-2.0
"""Volant: container images as real virtual machines."""

__version__ = "0.1.0"
