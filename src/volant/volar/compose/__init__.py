# SPDX-License-Identifier: Apache-2.0
"""`volar compose`: from compose.yaml to virtual machines, over the API alone.

files and interpolation → loading (one merged model) → requests (what each VM is made with) → planning (what differs
from what is there; pure) → doing. What each key of a file comes to is said in one table, `fates`.
"""
