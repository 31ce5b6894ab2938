"""Write the result table."""

from batchgen.exporters.files import FORMATS, check_target, export, format_of
from batchgen.exporters.interface import Page, Record

__all__ = ["FORMATS", "Page", "Record", "check_target", "export", "format_of"]
