"""Write the result table."""

from batchgen.exporters.files import check_target, export
from batchgen.exporters.interface import Record

__all__ = ["Record", "check_target", "export"]
