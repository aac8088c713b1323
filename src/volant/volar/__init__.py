# SPDX-License-Identifier: Apache-2.0
"""volar: the command line over volantd's API. It knows the API's JSON and nothing of the daemon's code."""
