"""mkisod: hands patients their studies on a disc."""

from typing import Final

__version__: Final = "0.1.0"

# Who wrote a file or speaks in an association (PS3.7 D.3.3.2): of the UUID-derived root (PS3.5 B.2), for every version.
IMPLEMENTATION_CLASS_UID: Final = "2.25.58864763664363348024768758269890766160"
IMPLEMENTATION_VERSION_NAME: Final = "MKISOD"
