# SPDX-License-Identifier: Apache-2.0
"""Volant against its peers, both in one run; every result is a line `RATIO <name> <number>`."""
