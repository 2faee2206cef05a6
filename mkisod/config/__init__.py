"""The configuration: its values (`settings`) and how a file becomes one (`parsing`)."""
