"""Fetch clips: from a URL to a whole file under its final name."""
