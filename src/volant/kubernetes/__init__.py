# SPDX-License-Identifier: Apache-2.0
"""A Volant host as a Kubernetes node: pods are VMs of the daemon beside it, which is asked through its API alone."""
