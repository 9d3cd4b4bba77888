"""Answering several requests at once."""
