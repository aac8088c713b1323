# SPDX-License-Identifier: Apache-2.0
"""Registries of OCI artifacts: names of what is in them, and skopeo, which carries it."""
