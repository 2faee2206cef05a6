"""Which boot of the machine this is: what was not synced in an earlier one may be anything.

In the hardened unit the kernel's file is hidden, and systemd passes the number in the environment (`MKISOD_BOOT_ID=%b`). Where neither is
there, every start counts as a boot: then an unsynced object is never trusted, and only fetched again.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

_KERNEL_FILE = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> str:
    """32 hexadecimal digits."""
    text = os.environ.get("MKISOD_BOOT_ID", "")
    if not text:
        try:
            text = _KERNEL_FILE.read_text(encoding="ascii")
        except OSError:
            text = uuid.uuid4().hex
    return text.strip().replace("-", "")
