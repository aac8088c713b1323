# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

from hypothesis import settings

# A busy machine is slow, not wrong: no test of ours fails for the time that an example took.
settings.register_profile("volant", deadline=None)
settings.load_profile("volant")
