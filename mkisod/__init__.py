"""mkisod: hands patients their studies on a disc."""
