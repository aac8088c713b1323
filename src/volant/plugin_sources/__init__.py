# SPDX-License-Identifier: Apache-2.0
"""From what somebody names (a folder, an image, an archive, a registry) to a plugin that the daemon has."""
