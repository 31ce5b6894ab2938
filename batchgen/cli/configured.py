"""What `batchgen.toml` and `BATCHGEN_*` say of options: flag, environment, folder, user, default.

A command's options are given what is configured while it is parsed, in one place for all
commands. Files are read only then, so that `--help` never meets a broken one. Which options
can be configured stands in one table; an option that is not in it cannot.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from batchgen import failpoints
from batchgen.domain.errors import UsageError
from batchgen.domain.spelling import nearly, suggestion
from batchgen.settings import (
    DEFAULT_DATABASE,
    NOTIFY_NAME,
    PART_NAME,
    SIMULATED_DATABASE,
    ConfigFile,
    config_files,
    read_config,
)

CONFIGURABLE = frozenset(
    {
        # what commands share
        *("account", "allow_network_fs", "db", "json", "quiet", "simulate", "verbose"),
        # how manifests are read
        *("allow_private_inputs", "allow_unknown_inputs", "max_expand", "probe"),
        # a batch's own
        *("budget", "model", "name", "output_dir", "uploads"),
        # how a run works
        *("download", "download_jobs", "download_rate", "halt", "job_timeout", "jobs", "jobs_max"),
        *(
            "lease",
            "limit",
            "link_lifetime",
            "max_duration",
            "max_outage",
            "min_balance",
            "new_seed_on_retry",
        ),
        *("policy_retries", "poll_interval", "poll_rate", "retries", "submit_rate", "until"),
        *("wait_for_balance",),
        # what it tells and writes
        *("bom", "columns", "events", "excel_safe", "format", "metrics", "no_inhibit", "no_log"),
        *("notify", "notify_on", "output", "posters", "progress", "sidecar", "sort"),
        # the stand-in of `simulate`
        *("charge_failed", "clip_bytes", "echo_inputs", "fail_rate", "fault", "host"),
        *("link_life_s", "max_in_flight", "outputs", "port", "price", "queue_s", "run_s", "seed"),
        *("slots", "strict", "submits_per_s", "wallet"),
    }
)
"""The options that can be configured, by their key: how something is done."""

_PAYS = "it agrees to pay, or to pay again, so it is given each time"
_CHOOSES = "it says what one command acts on, so it is given each time"
FLAGS_ONLY: Mapping[str, str] = {
    **dict.fromkeys(("yes", "replace", "new_batch", "resubmit_in_doubt"), _PAYS),
    **dict.fromkeys(
        (
            *("adopt", "after_restore", "all", "batch", "clips", "csv", "dry_run", "failed"),
            *("follow", "from_rescue", "hash", "id", "job", "journal", "keys", "last", "list"),
            *("max", "new_seed", "no_journal", "offline", "older_than", "overwrite", "pending"),
            *("prune", "raw", "refresh", "resubmit", "search", "sign", "state", "tail", "undo"),
            *("verify", "watch"),
            *("where", "write_off"),
        ),
        _CHOOSES,
    ),
    "token": "a token is never kept here: set RUNCOMFY_TOKEN, or log in with RunComfy's program",
}
"""The options that cannot, by their key, with the reason: flags, whatever files and names say."""

USERS_ONLY: Mapping[str, str] = {
    "notify": "it sends what a run does to others",
    "uploads": "it sends your files to others",
    "metrics": "it lets others on the network ask how a run goes",
    "allow_private_inputs": "it lets a manifest reach into your network",
    "allow_network_fs": "it puts the job database at risk",
}
"""What the current folder's file may not say, with the reason: it may be somebody else's."""

OF_ONE_COMMAND = frozenset({"columns", "limit", "output", "sort"})
"""What means something else for each command: it stands in a command's table only."""

OF_A_BATCH = frozenset({"budget", "model", "name", "output_dir", "uploads"})
"""Configured, these are defaults, where neither a manifest nor its batch says otherwise."""

_WITH_MANIFESTS = frozenset({"add", "plan", "run", "validate"})
_PREFIX = "BATCHGEN_"
_OTHER_NAMES = frozenset({PART_NAME, failpoints.VARIABLE})
_TELLS_ALL = ("config", "check")
_INSIDE = frozenset({"events", "output"})
_FILES = "batchgen.cli.configured.files"
_USED = "batchgen.cli.configured.used"
_ASIDE = "batchgen.cli.configured.defaults"


@dataclass(frozen=True)
class Read:
    """A `batchgen.toml` as it was found.

    Attributes:
        file: Where it was looked for.
        said: What it says; None if it is not there.
    """

    file: ConfigFile
    said: dict[str, Any] | None

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path


@dataclass(frozen=True)
class Setting:
    """A value of a file.

    Attributes:
        file: Which file.
        place: Its key there: `jobs`, `run.jobs`.
        raw: As TOML has it.
    """

    file: ConfigFile
    place: str
    raw: Any

    @property
    def shown(self) -> str:
        """File and key, for people."""
        return f"{self.file.path}: {self.place}"


def key_of(option: click.Option) -> str:
    """Return how an option is called in a file: `--output-dir` is `output_dir`."""
    long = max(option.opts, key=len)
    return long.lstrip("-").replace("-", "_")


def is_configurable(option: click.Option) -> bool:
    """Return whether files and environment may say something of an option."""
    return key_of(option) in CONFIGURABLE


def name_of(option: click.Option) -> str | None:
    """Return the environment's name for an option, None if it has none."""
    return f"{_PREFIX}{key_of(option).upper()}" if is_configurable(option) else None


def apply(command: click.Command, *path: str) -> None:
    """Let a command, and those below it, take what is configured.

    Args:
        command: It.
        path: Its name, after those of the groups that it is in.
    """
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            apply(below, *path, name)
        return
    command.context_class = _Context
    for option in options_of(command):
        # Those who are told: flags and environment add up, which click cannot do.
        if is_configurable(option) and option.envvar is None and key_of(option) != "notify":
            option.envvar = name_of(option)
        if key_of(option) in OF_A_BATCH and path[0] in _WITH_MANIFESTS:
            option.callback = _set_aside


def options_of(command: click.Command) -> list[click.Option]:
    """Return a command's own options."""
    return [one for one in command.params if isinstance(one, click.Option)]


def is_typed(name: str) -> bool:
    """Return whether an option of the command at work was given on the command line.

    Args:
        name: Of the parameter.
    """
    context = click.get_current_context(silent=True)
    return context is None or context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def defaults() -> dict[str, Any]:
    """Return what is configured for batches that say nothing themselves, by parameter."""
    context = click.get_current_context(silent=True)
    return {} if context is None else dict(context.meta.get(_ASIDE, {}))


def whence(name: str) -> str:
    """Return where what is configured for a parameter comes from: file and key, or a name."""
    context = click.get_current_context()
    found: Setting | None = context.meta.get(_USED, {}).get(name)
    if found is not None:
        return found.shown
    return next(
        name_of(one) or key_of(one) for one in options_of(context.command) if one.name == name
    )


def _set_aside(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    configured = (ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
    if value is None or ctx.get_parameter_source(str(param.name)) not in configured:
        return value
    ctx.meta.setdefault(_ASIDE, {})[param.name] = value
    return None


class _Context(click.Context):
    """What a command is parsed in: asks the files where the command line says nothing."""

    def lookup_default(self, name: str, call: bool = True) -> Any:
        """Return what the files say of a parameter, None if nothing."""
        # Without `call` only the help asks, and `--help` reads no files.
        option = next((one for one in options_of(self.command) if one.name == name), None)
        if not call or option is None or not is_configurable(option):
            return None
        try:
            found = find(files(self), path_of(self), option)
            return None if found is None else _value(self, option, found)
        except UsageError:
            # What is typed is being completed; or all that is wrong is told by the command.
            if self.resilient_parsing or path_of(self) == _TELLS_ALL:
                return None
            raise

    def set_parameter_source(self, name: str, source: ParameterSource) -> None:
        """Note where a value comes from; refuse a wrong one of the environment by its name."""
        super().set_parameter_source(name, source)
        if source is not ParameterSource.ENVIRONMENT or self.resilient_parsing:
            return
        option = next(one for one in options_of(self.command) if one.name == name)
        _check_environment(self, option)


def _check_environment(context: click.Context, option: click.Option) -> None:
    try:
        option.process_value(context, option.value_from_envvar(context))
    except click.BadParameter as error:
        raise UsageError(f"{option.envvar}: {error.message}") from error


def path_of(context: click.Context) -> tuple[str, ...]:
    """Return the command's name, after those of the groups that it is in."""
    names: list[str] = []
    at: click.Context | None = context
    while at is not None and at.parent is not None:
        names.insert(0, str(at.info_name))
        at = at.parent
    return tuple(names) or (str(context.info_name),)


# -- files ---------------------------------------------------------------------------------------


def files(context: click.Context) -> Sequence[Read]:
    """Return the files, read and checked once a command.

    Raises:
        UsageError: If one cannot be read, or says what no file may.
    """
    known: dict[tuple[str, ...], list[Read]] = context.meta.setdefault(_FILES, {})
    path = path_of(context)
    if path not in known:
        found = read_all()
        for fault in _faults(context, found):
            raise fault
        known[path] = found
    return known[path]


def read_all() -> list[Read]:
    """Return the files as they are.

    Raises:
        UsageError: If one cannot be read.
    """
    return [Read(file, read_config(file.path)) for file in config_files()]


def find(found: Iterable[Read], path: Sequence[str], option: click.Option) -> Setting | None:
    """Return what wins of what files say of an option, None if they say nothing."""
    key = key_of(option)
    if key == "notify" and os.environ.get(NOTIFY_NAME, "").strip():
        return None
    for read in found:
        for depth in range(len(path), -1, -1):  # a command's own table, then what is for all
            table = _table(read.said or {}, path[:depth])
            if key in table and not isinstance(table[key], dict):
                return Setting(read.file, ".".join((*path[:depth], key)), table[key])
    return None


def _table(said: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    for name in path:
        below = said.get(name)
        said = below if isinstance(below, dict) else {}
    return said


def _faults(context: click.Context, found: Iterable[Read]) -> Iterator[UsageError]:
    """Yield what is wrong with keys and tables: what nothing would take."""
    for read in found:
        yield from _faults_of(context, read)


def _faults_of(context: click.Context, read: Read) -> Iterator[UsageError]:
    root = context.find_root().command
    commands = root.list_commands(context) if isinstance(root, click.Group) else ()
    known = CONFIGURABLE | FLAGS_ONLY.keys()
    for name, value in (read.said or {}).items():
        if not isinstance(value, dict) and name in OF_ONE_COMMAND:
            yield UsageError(
                f"{read.path}: {name}: it means something else for each command: write it into the "
                "table of one, such as [run]"
            )
        elif not isinstance(value, dict):
            yield from _faults_of_key(read, name, name, known)
        elif name in commands:
            yield from _faults_of_table(context, read, (name,), value, known)
        else:
            yield _unknown(read, f"the table [{name}] is of no command", name, commands)


def _faults_of_table(
    context: click.Context,
    read: Read,
    path: tuple[str, ...],
    table: Mapping[str, Any],
    known: Iterable[str],
) -> Iterator[UsageError]:
    mine = path_of(context)
    if mine == path:  # of other commands only what no command has: that costs nothing to know
        known = {key_of(option) for option in options_of(context.command)}
    group = context.parent.command if context.parent is not None else None
    is_mine = isinstance(group, click.Group) and mine[:-1] == path
    below = group.list_commands(context) if isinstance(group, click.Group) and is_mine else None
    for name, value in table.items():
        place = ".".join((*path, name))
        if not isinstance(value, dict):
            yield from _faults_of_key(read, place, name, known)
        elif len(path) > 1 or (below is not None and name not in below) or mine == path:
            yield _unknown(read, f"the table [{place}] is of no command", name, below or ())
        else:
            yield from _faults_of_table(context, read, (*path, name), value, known)


def _faults_of_key(read: Read, place: str, name: str, known: Iterable[str]) -> Iterator[UsageError]:
    where = f"{read.path}: {place}"
    if name in FLAGS_ONLY:
        flag = f"--{name.replace('_', '-')}"
        yield UsageError(f"{where}: {flag} cannot be configured: {FLAGS_ONLY[name]}")
    elif name not in known or name not in CONFIGURABLE:
        what = f"there is no setting {name} here" if name in CONFIGURABLE else "unknown setting"
        yield _unknown(read, f"{place}: {what}", name, CONFIGURABLE & set(known))
    elif not read.file.is_users and name in USERS_ONLY:
        mine = next((file.path for file in config_files() if file.is_users), "your own file")
        yield UsageError(
            f"{where}: a folder's file may not say this, since {USERS_ONLY[name]} and the file may "
            f"be somebody else's: move it to {mine}, or pass --{name.replace('_', '-')}"
        )


def _unknown(read: Read, what: str, name: str, known: Iterable[str]) -> UsageError:
    meant = suggestion(name, known)
    return UsageError(f"{read.path}: {what}: {meant}`batchgen config show COMMAND` lists them")


# -- values --------------------------------------------------------------------------------------


class _Unfit(Exception):
    """A value of a file is of the wrong kind."""


def _value(ctx: click.Context, option: click.Option, found: Setting) -> Any:
    """Return a file's value as the command line would have it, once its option takes it."""
    try:
        value = _typed(option, found)
        option.process_value(ctx, value)
    except (_Unfit, click.BadParameter) as error:
        message = error.message if isinstance(error, click.BadParameter) else str(error)
        raise UsageError(f"{found.shown}: {message}") from error
    ctx.meta.setdefault(_USED, {})[option.name] = found
    return value


def _typed(option: click.Option, found: Setting) -> Any:
    raw = found.raw
    if option.is_flag:
        if not isinstance(raw, bool):
            raise _Unfit("say true or false, without quotes")
        return raw
    if option.multiple:
        return [_text(option, found, one) for one in (raw if isinstance(raw, list) else [raw])]
    if isinstance(raw, list):
        raise _Unfit("takes one value, not a list")
    return _text(option, found, raw)


def _text(option: click.Option, found: Setting, raw: Any) -> str:
    """Return one value as it would be typed: each type checks its own words."""
    if isinstance(raw, bool):
        raise _Unfit("takes a value, not true or false")
    if isinstance(raw, date | time | list | dict):  # TOML has times of its own
        raise _Unfit("write the value in quotes")
    is_text = isinstance(option.type, click.types.StringParamType | click.Choice | click.Path)
    if is_text and not isinstance(raw, str):
        raise _Unfit(f'takes text: write it in quotes, as "{raw}"')
    return _placed(key_of(option), found, str(raw))


def _placed(key: str, found: Setting, text: str) -> str:
    """Return a value that may name a file, from the place that it is meant from."""
    if key == "db":
        return _database(found, text)
    if key in _INSIDE and text != "-" and not found.file.is_users:
        here = found.file.path.resolve().parent
        if not (here / text).resolve().is_relative_to(here):
            raise _Unfit(
                "a folder's file may name files in its folder only, since it may be somebody "
                f"else's: pass --{key} {text}"
            )
    return text


def _database(found: Setting, text: str) -> str:
    prefix = "sqlite:///" if text.startswith("sqlite:///") else ""
    path = text.removeprefix(prefix)
    if not prefix and "://" in text:
        if found.file.is_users:
            return text
        raise _Unfit(
            "a folder's file may name a file only: a server would be given your password, and the "
            "file may be somebody else's. Set BATCHGEN_DB, or pass --db"
        )
    try:
        place = Path(path).expanduser()
    except RuntimeError:
        return text  # told where it is opened
    return f"{prefix}{found.file.path.parent / place}"


# -- telling -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explained:
    """An option of a command, and what it is without a flag.

    Attributes:
        option: `--jobs`.
        key: `jobs`.
        env: Its name in the environment, None if it is a flag only.
        shown: Its value for people, without secrets.
        source: `default`, `environment` or `file`.
        origin: The name, or file and key; None for a default.
    """

    option: str
    key: str
    env: str | None
    shown: str
    source: str
    origin: str | None = None


def explain(context: click.Context) -> list[Explained]:
    """Return every option of the command of a context, with the value that is configured.

    Raises:
        UsageError: If a file or the environment says what it may not.
    """
    found = [_explained(context, one) for one in options_of(context.command)]
    if any(one.key == "simulate" and one.shown == "true" for one in found):
        simulated = (SIMULATED_DATABASE, "default", "--simulate")
        found = [
            Explained(one.option, one.key, one.env, *simulated) if one.key == "db" else one
            for one in found
        ]
    return found


def _explained(context: click.Context, option: click.Option) -> Explained:
    key, env = key_of(option), name_of(option)
    flag = max(option.opts, key=len)
    said = os.environ.get(env or "", "").strip()
    if env and said:
        if option.envvar is not None:
            _check_environment(context, option)
        return Explained(flag, key, env, as_text(key, said), "environment", env)
    if env and (setting := find(files(context), path_of(context), option)) is not None:
        _value(context, option, setting)
        return Explained(flag, key, env, shown(setting), "file", setting.shown)
    default = option.to_info_dict()["default"]
    if key == "db":
        default = DEFAULT_DATABASE
    return Explained(flag, key, env, as_text(key, default), "default")


def faults(context: click.Context) -> list[str]:
    """Return all that files and environment say wrongly for the command of a context.

    Raises:
        UsageError: If a file cannot be read.
    """
    found = read_all()
    wrong = [str(fault) for fault in _faults(context, found)]
    context.meta.setdefault(_FILES, {})[path_of(context)] = found  # what they say else is used
    for option in options_of(context.command):
        try:
            _explained(context, option)
        except UsageError as error:
            wrong.append(str(error))
    return wrong


def unknown_names() -> dict[str, str]:
    """Return the names in the environment that look like ours and that nothing reads.

    Returns:
        By name what may have been meant, or why it cannot be set; "" if nobody can tell.
    """
    known = {f"{_PREFIX}{key.upper()}" for key in CONFIGURABLE} | _OTHER_NAMES
    return {
        name: _instead(name.removeprefix(_PREFIX).lower())
        for name in sorted(os.environ)
        if name.startswith(_PREFIX) and name not in known
    }


def _instead(key: str) -> str:
    if key in FLAGS_ONLY:
        return f"--{key.replace('_', '-')} cannot be configured: {FLAGS_ONLY[key]}"
    meant = nearly(key, sorted(CONFIGURABLE))
    return "" if meant is None else f"did you mean {_PREFIX}{meant.upper()}?"


def used() -> list[str]:
    """Return what the command at work takes from files, a line for each file."""
    context = click.get_current_context(silent=True)
    found: Mapping[str, Setting] = {} if context is None else context.meta.get(_USED, {})
    lines: dict[Path, list[str]] = {}
    for setting in found.values():
        lines.setdefault(setting.file.path, []).append(f"{setting.place} = {shown(setting)}")
    return [f"settings of {path}: {', '.join(said)}" for path, said in lines.items()]


def shown(setting: Setting) -> str:
    """Return a file's value for people, without secrets."""
    return as_text(setting.place.rpartition(".")[2], setting.raw)


def as_text(key: str, value: Any) -> str:
    """Return a value of any source for people, without secrets."""
    if value is None:
        return ""
    if key == "notify":
        count = len(value.split() if isinstance(value, str) else value)
        return f"{count} hidden" if count else ""
    if key == "db" and "password" in str(value).lower():
        return "hidden"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)
