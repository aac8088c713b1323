# SPDX-License-Identifier: Apache-2.0
"""Step 5 of the line: FileTree → a planned ext4 file system, told block by block.

`plan_ext4(tree, size_bytes=…, timestamp=…, label=…)` decides where everything goes, without reading any content;
the image it returns yields its pieces in ascending order. Follows the kernel's Documentation/filesystems/ext4.
"""

from volant.filesystems.ext4.image import Ext4Image, plan_ext4

__all__ = ["Ext4Image", "plan_ext4"]
