"""Asking, beside findscu."""
