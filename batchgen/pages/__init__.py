"""Write what is found as one HTML page."""

from batchgen.pages.html import is_report, render

__all__ = ["is_report", "render"]
