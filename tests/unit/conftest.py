"""How properties are searched: without a deadline, since nothing here is about time, and with a line that repeats what was found."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, print_blob=True)
settings.load_profile("unit")
