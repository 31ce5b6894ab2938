"""Where settings come from: the environment, `batchgen.toml`, and RunComfy's own token file.

Only this module and `cli` read the environment. The token stays in `Token` and is never
printed by it.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchgen.domain.errors import BatchgenError, Exit, UsageError
from batchgen.domain.redaction import secret_pattern

TOKEN_NAMES = ("RUNCOMFY_TOKEN", "RUNCOMFY_API_TOKEN")
BASE_NAME = "RUNCOMFY_MODEL_API_BASE"
NOTIFY_NAME = "BATCHGEN_NOTIFY"
PART_NAME = "BATCHGEN_PART_BYTES"
_PART_BYTES = (8 * 1024**2, 64 * 1024, 1024**3)  # usual, least, most
DEFAULT_DATABASE = "batchgen.db"
SIMULATED_DATABASE = "batchgen-simulated.db"
SIMULATED_CLIPS = "clips-simulated"
CONFIG_NAME = "batchgen.toml"
_MOST_CONFIG_BYTES = 1 << 20
_TOKEN = re.compile(r"[\x21-\x7e]+")


class TokenMissing(BatchgenError):
    """There is no token to be found."""

    kind = "token_missing"
    exit_code = Exit.TOKEN


@dataclass(frozen=True)
class Token:
    """A RunComfy token and where it was found.

    Attributes:
        text: The secret; left out of the representation.
        source: The name of the variable, or the file.
        expires_at: When it ends, if the file says so.
    """

    text: str = field(repr=False)
    source: str
    expires_at: datetime | None = None

    @property
    def digest(self) -> str:
        """Return a hash that tells tokens apart without keeping them."""
        return hashlib.sha256(b"batchgen token " + self.text.encode()).hexdigest()[:16]


def find_token(environment: Mapping[str, str] | None = None) -> Token:
    """Return the token from the environment, else from RunComfy's own `token.json`.

    Raises:
        TokenMissing: If there is none, or it holds what no token can.
        UsageError: If the token file cannot be read.
    """
    env = os.environ if environment is None else environment
    for name in TOKEN_NAMES:
        if env.get(name, "").strip():
            return Token(_checked(env[name], name), name)
    path = token_file(env)
    if path.is_file():
        return _from_file(path)
    raise TokenMissing(
        f"no token: set {TOKEN_NAMES[0]} (RunComfy's website shows it under Profile), or log in "
        f"with RunComfy's own program, which writes {path}"
    )


def without_token(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a text for people or a file, with every token that may be in use hidden."""
    for secret in tokens(environment):
        text = secret_pattern(secret).sub("[token]", text)
    return text


def tokens(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return every token that may be in use."""
    env = os.environ if environment is None else environment
    found = [env.get(name, "").strip() for name in TOKEN_NAMES]
    with contextlib.suppress(BatchgenError):  # no token file, or none that can be read
        found.append(_from_file(token_file(env)).text)
    return [token for token in found if token]


def part_bytes(environment: Mapping[str, str] | None = None) -> int:
    """Return what is held in memory of a clip on its way to a bucket, and sent in one piece.

    Raises:
        UsageError: If what is set is no such number of bytes.
    """
    env = os.environ if environment is None else environment
    usual, least, most = _PART_BYTES
    text = env.get(PART_NAME, "").strip()
    if not text:
        return usual
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise UsageError(f"{PART_NAME}={text!r}: write a number of bytes from {least} to {most}")
    return int(text)


def token_file(env: Mapping[str, str]) -> Path:
    """Return where RunComfy's own program keeps its token."""
    if env.get("RUNCOMFY_CONFIG_DIR"):
        return Path(env["RUNCOMFY_CONFIG_DIR"]) / "token.json"
    if env.get("XDG_CONFIG_HOME"):
        return Path(env["XDG_CONFIG_HOME"]) / "runcomfy" / "token.json"
    return Path(env.get("HOME", "~")).expanduser() / ".config" / "runcomfy" / "token.json"


def _from_file(path: Path) -> Token:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        text = said["access_token"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path}: no token can be read from it ({type(error).__name__}): log in again, or set "
            f"{TOKEN_NAMES[0]}"
        ) from error
    if not isinstance(text, str) or not text.strip():
        raise TokenMissing(f"{path}: its token is empty: log in again, or set {TOKEN_NAMES[0]}")
    return Token(_checked(text, str(path)), str(path), _time(said.get("expires_at")))


def _checked(text: str, source: str) -> str:
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise TokenMissing(
            f"the token in {source} holds a space, a line break or another character that no "
            f"token has: copy it again, on one line, into {TOKEN_NAMES[0]}"
        )
    return token


def _time(value: object) -> datetime | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        except (ValueError, OverflowError, OSError):  # no time that a calendar has
            return None
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return None
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None


def state_folder(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where programs keep what must outlive them; None if there is no home."""
    return _home_folder("XDG_STATE_HOME", ".local/state", environment)


def config_folder(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where programs keep what their user sets up; None if there is no home."""
    return _home_folder("XDG_CONFIG_HOME", ".config", environment)


def cache_folder(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where programs keep what they can fetch again; None if there is no home."""
    return _home_folder("XDG_CACHE_HOME", ".cache", environment)


def _home_folder(name: str, below_home: str, environment: Mapping[str, str] | None) -> Path | None:
    env = os.environ if environment is None else environment
    named = Path(env.get(name, ""))
    if named.is_absolute():  # the standard says to ignore another
        return named
    try:
        home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    except RuntimeError:  # neither the environment nor the system knows one
        return None
    return home / below_home if home.is_absolute() else None


@dataclass(frozen=True)
class ConfigFile:
    """A place where `batchgen.toml` is looked for.

    Attributes:
        path: The file, whether it is there or not.
        is_users: It is the user's own. The current folder's may have come with what somebody
            else has made, so it may say less.
    """

    path: Path
    is_users: bool


def config_files(environment: Mapping[str, str] | None = None) -> list[ConfigFile]:
    """Return where `batchgen.toml` is looked for; the first that says something wins."""
    here = ConfigFile(Path(CONFIG_NAME), is_users=False)
    folder = config_folder(environment)
    if folder is None:
        return [here]
    mine = ConfigFile(folder / "batchgen" / CONFIG_NAME, is_users=True)
    with contextlib.suppress(OSError):
        if here.path.samefile(mine.path):  # the user stands in their own folder
            return [mine]
    return [here, mine]


def read_config(path: Path) -> dict[str, Any] | None:
    """Return what a `batchgen.toml` says, None if there is none.

    Raises:
        UsageError: If it cannot be read, or is no TOML.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            raise UsageError(f"{path}: is not a file: rename it, or put the settings into a file")
        with path.open("rb") as file:
            text = file.read(_MOST_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}: correct that") from error
    if len(text) > _MOST_CONFIG_BYTES:
        raise UsageError(f"{path}: is larger than 1 MiB: this is no file of settings")
    try:
        return tomllib.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError too
        raise UsageError(
            f"{path}: is not TOML: {error}; a setting is a line such as jobs = 8"
        ) from error


def log_folder(database: Path | None, environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where logs of sessions lie: beside the file, of a server in the user's own place.

    Args:
        database: The file of the job database, None for a server.
        environment: Instead of the process's.
    """
    if database is not None:
        return database.with_name(f"{database.name}-logs")
    state = state_folder(environment)
    return None if state is None else state / "batchgen" / "logs"


def notify_urls(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the URLs of those who are to be told how a run goes; they hold secrets."""
    env = os.environ if environment is None else environment
    return env.get(NOTIFY_NAME, "").split()


def api_base() -> str | None:
    """Return the API's base from the environment, None for the provider's default."""
    return os.environ.get(BASE_NAME) or None


def database_url(option: str | None) -> str:
    """Return which job database is meant.

    Args:
        option: What `--db` holds: as it was typed, of the environment, of a file, or nothing.
    """
    return option or DEFAULT_DATABASE
