"""Write the result table."""

from batchgen.exporters.files import check_target, export
from batchgen.exporters.interface import RESULT_COLUMNS, Record

__all__ = ["RESULT_COLUMNS", "Record", "check_target", "export"]
