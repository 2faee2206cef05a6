"""DICOM on a disc: from received objects to a checked file-set, its image, its archive. The door is disc.py; verify.py reads any disc."""
