"""Money and lengths of time as people read them, on a terminal and on a page."""

_CENT_MICROS = 10_000


def usd(micros: int | None, *, is_estimate: bool = False) -> str:
    """Return money for people: `$1.25`, to the cent unless that hides something.

    `~$1.25` is spent money that is an estimate at least in part: the service did not state it.
    What is reserved is an estimate anyway, and has no mark.
    """
    if micros is None:
        return "unknown"
    digits = 2 if micros % _CENT_MICROS == 0 else 4
    return f"{'~' if is_estimate else ''}${micros / 1_000_000:,.{digits}f}"


def lasting(seconds: float) -> str:
    """Return a length of time in two units at most: `850 ms`, `4.2 s`, `2 h 10 min`."""
    if seconds < 0:
        return f"-{lasting(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 86_400:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86_400, "d", 3600, "h")


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    first, rest = divmod(seconds, large)
    second = rest // small
    return f"{first} {large_name} {second} {small_name}" if second else f"{first} {large_name}"
