"""The host: systemd and the journal."""
