"""The schemas of what is answered: of every command, closed, and true to the code."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click
import jsonschema_rs
import pytest
from cli.commands import call, ok

from batchgen.cli import answers
from batchgen.cli.main import cli
from batchgen.domain.errors import Exit
from batchgen.domain.states import AttemptState, ErrorClass, JobState
from batchgen.domain.telling import KINDS
from batchgen.planning import Verdict
from batchgen.store.after_restore import Became
from batchgen.verifying import Verdict as Clip

LINES_AND_FILES = {"envelope", "event", "progress", "sidecar"}
OPEN = {
    *("columns", "inputs", "manifest", "schema", "data", "lines"),  # the user's, a model's, any
    *("cancelled", "failed_by_class", "held", "media", "models", "rows"),  # by a name
}
"""The members whose keys are not ours."""


def answering(command: click.Command, at: click.Context, path: str = "") -> Iterator[str]:
    """The names of all commands with `--json`."""
    if isinstance(command, click.Group):
        for name in command.list_commands(at):
            below = command.get_command(at, name)
            assert below is not None
            yield from answering(below, at, f"{path}-{name}")
    elif any("--json" in parameter.opts for parameter in command.params):
        yield path.removeprefix("-")


def parts(schema: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema within one, each with what it is of."""
    if not isinstance(schema, dict):
        return
    yield name, schema
    for key in ("properties", "$defs"):
        for below, part in schema.get(key, {}).items():
            yield from parts(part, below)
    yield from parts(schema.get("items"), name)
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key, ()):
            yield from parts(part, name)


def test_every_command_that_answers_has_a_schema_and_no_other() -> None:
    assert {*answering(cli, click.Context(cli)), *LINES_AND_FILES} == set(answers.names())


@pytest.mark.parametrize("name", answers.names())
def test_a_schema_is_closed_and_stands_alone(name: str) -> None:
    schema = answers.schema(name)

    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for what, part in parts(schema):
        assert part.get("$ref", "#/$defs/").startswith("#/$defs/")
        if "properties" in part and part is not schema:
            assert part["additionalProperties"] is False, what
            assert set(part["required"]) <= set(part["properties"]), what
        elif "object" in part.get("type", ()) and "oneOf" not in part and part is not schema:
            assert what in OPEN, what


def enum_of(part: str, name: str = "show") -> list[Any]:
    found = answers.schema(name)["$defs"][part]["enum"]
    assert isinstance(found, list)
    return [value for value in found if value is not None]


def test_the_schemas_know_every_word_of_the_code() -> None:
    attempt = answers.schema("show")["$defs"]["attempt"]["properties"]
    clips = answers.schema("db-check")["$defs"]["clips"]["properties"]
    item = answers.schema("plan")["properties"]["data"]["properties"]["manifests"]["items"]
    put_back = answers.schema("reconcile")["$defs"]["purchase"]["properties"]

    assert enum_of("state") == list(JobState)
    assert enum_of("error_class") == list(ErrorClass)
    assert enum_of("exit_code") == sorted(map(int, Exit))
    assert list(answers.schema("status")["$defs"]["counts"]["properties"]) == list(JobState)
    assert attempt["state"]["enum"] == list(AttemptState)
    assert list(clips["counts"]["properties"]) == list(Clip)
    verdicts = item["properties"]["items"]["items"]["properties"]["verdict"]["enum"]
    assert verdicts == [verdict.name.lower() for verdict in Verdict]
    assert put_back["became"]["enum"] == [became.name.lower() for became in Became]


def test_the_schema_of_an_event_has_every_kind_with_its_fields() -> None:
    kinds = {
        part["properties"]["kind"]["const"]: part["required"]
        for part in answers.schema("event")["oneOf"]
    }

    assert kinds == {
        kind: ["seq", "at", "session", "kind", *fields] for kind, fields in KINDS.items()
    }


def test_a_schema_is_printed_for_a_command_as_it_is_typed() -> None:
    listed = ok("schema", "output").out.split()

    assert listed == answers.names()
    for words in (["db", "check"], ["db-check"], ["db check"]):
        printed = json.loads(ok("schema", "output", *words).out)
        assert printed == answers.schema("db-check")
        assert printed["properties"]["schema"] == {"const": "batchgen/db-check/1"}


def test_an_unknown_one_is_refused_with_what_was_meant() -> None:
    refused = call("schema", "output", "db", "chek")

    assert refused.code == 2
    assert "there is no schema of db chek: did you mean `db-check`?" in refused.err


@pytest.mark.parametrize(
    "change",
    [
        {"new": 1},
        {"jobs": "1"},
        {"file": None},
        {"is_manifest": 1},
    ],
)
def test_what_is_not_written_down_does_not_fit(change: dict[str, Any]) -> None:
    said = {"file": "out.csv", "jobs": 1, "is_manifest": True}
    whole = {
        "schema": "batchgen/export/1",
        "ok": True,
        "exit_code": 0,
        "data": said,
        "error": None,
    }
    schema = jsonschema_rs.Draft202012Validator(answers.schema("export"))

    assert schema.is_valid(whole)
    assert schema.is_valid({**whole, "data": None})
    assert not schema.is_valid({**whole, "data": {**said, **change}})
    assert not schema.is_valid({**whole, "schema": "batchgen/ls/1"})
    assert not schema.is_valid({**whole, "extra": 1})
