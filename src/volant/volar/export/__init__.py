# SPDX-License-Identifier: Apache-2.0
"""Plugins and VMs for those who run virtual machines elsewhere."""
