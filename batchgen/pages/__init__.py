"""Write what is found as one HTML page."""

from batchgen.pages.html import REPORT, render

__all__ = ["REPORT", "render"]
