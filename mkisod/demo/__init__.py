"""The demo room: a small PACS of our own and a synthetic phantom patient, for `mkisod demo` and for tests."""
