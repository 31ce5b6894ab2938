"""A disk that keeps only what was synced, under a real program; see `layer.c`."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


def compiled(folder: Path, source: Path | None = None) -> Path | None:
    """Compile a library to be preloaded, the layer if none is named; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source = source or Path(__file__).with_name("layer.c")
    library = folder / source.with_suffix(".so").name
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", library, source, "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class Disk:
    """What survives of one folder when the power goes."""

    library: Path
    watched: Path
    kept: Path

    def env(self) -> dict[str, str]:
        """Return the variables that put a program on this disk."""
        self.kept.mkdir(exist_ok=True)
        return {
            "LD_PRELOAD": str(self.library),
            "POWER_WATCHED": str(self.watched.resolve()),
            "POWER_DISK": str(self.kept.resolve()),
        }

    def after_the_cut(self, folder: Path) -> Path:
        """Write to a new folder what a machine finds when the power is back; return it."""
        folder.mkdir()
        # The root lives, so no other inode ever had its number.
        for root in self.kept.glob(f"{self.watched.stat().st_ino:x}-*"):
            self._restore(root.name, folder)
        return folder

    def _restore(self, key: str, folder: Path) -> None:
        entries = self.kept / key
        if not entries.exists():  # never synced: it is empty
            return
        for entry in entries.read_bytes().split(b"\0")[:-1]:
            kind, child, name = os.fsdecode(entry).split(" ", 2)
            place = folder / name
            if kind == "d":
                place.mkdir()
                self._restore(child, place)
            elif (self.kept / child).exists():
                shutil.copyfile(self.kept / child, place)
            else:
                place.touch()
