"""The spool as an operator's command finds it.

As root the command first becomes the spool's owner: what root wrote there with its own umask the daemon could neither read nor remove.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mkisod.config.parsing import read_config
from mkisod.config.settings import Config
from mkisod.errors import Code, Permanent
from mkisod.spool.layout import Layout

_UMASK = 0o027


def open_layout(arguments: argparse.Namespace, *, become_owner: bool = False) -> tuple[Config, Layout]:
    """The configuration and the spool that it names. Raises `Permanent` (`spool_unusable`)."""
    config = read_config(arguments.config)
    layout = Layout(Path(config.spool.dir), config.spool.instance)
    try:
        owner = layout.work.stat()
        if become_owner and os.geteuid() == 0:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
        os.umask(_UMASK)
        next(layout.work.iterdir(), None)
    except FileNotFoundError as error:
        raise Permanent(Code.SPOOL_UNUSABLE, f"There is no spool in {layout.root}.", "Start the daemon once; it makes it.") from error
    except PermissionError as error:
        raise Permanent(Code.SPOOL_UNUSABLE, f"This user may not look into {layout.work}.", "Run the command as root.") from error
    return config, layout
