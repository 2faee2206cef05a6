"""DICOM on the network: asking, moving, receiving."""
