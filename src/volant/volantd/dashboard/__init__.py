# SPDX-License-Identifier: Apache-2.0
"""The page of this daemon: who may use it, where it is reached, and its files, which dashboard/ is built into."""
