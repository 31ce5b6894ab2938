"""Run every benchmark, one after the other.

python benchmarks/run.py --quick                # small: within two minutes on a machine of its own
python benchmarks/run.py                        # in full: an hour or so
python benchmarks/run.py --only overhead export
"""

import argparse
import subprocess
import sys
import time

from measuring import HERE, checked_base, clean_environment

SCRIPTS = (
    "overhead",
    "polling",
    "expand",
    "status",
    "export",
    "resume",
    "in_flight",
    "fetching",
    "growth",
)
_WITH_SERVICE = frozenset({"overhead", "resume", "in_flight", "fetching", "growth"})


def main() -> None:
    """Run them; end with 1 if one could not do its work."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--quick", action="store_true", help="small, and less sure")
    options.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="NAME")
    options.add_argument("--base", type=checked_base, help="use this service where one is needed")
    options.add_argument("--results", metavar="FILE", help="where the sections go")
    chosen = options.parse_args()
    began = time.monotonic()
    failed = []
    for name in chosen.only:
        command = [sys.executable, str(HERE / f"{name}.py")]
        command += ["--quick"] if chosen.quick else []
        command += ["--results", chosen.results] if chosen.results else []
        if chosen.base and name in _WITH_SERVICE:
            command += ["--base", chosen.base]
        # The environment's token is for the service that is given.
        environment = None if chosen.base else clean_environment()
        its_begin = time.monotonic()
        if subprocess.run(command, env=environment, check=False).returncode:
            failed.append(name)
        print(f"{name}: {time.monotonic() - its_begin:.0f} s", file=sys.stderr)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if failed:
        sys.exit(f"could not be measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
