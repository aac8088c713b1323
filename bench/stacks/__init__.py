# SPDX-License-Identifier: Apache-2.0
"""What VMs cost that stand together: one module for each figure of `make bench-stacks`, with a `main` of its own."""
