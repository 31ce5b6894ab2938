"""`schema manifest`."""

import json

import jsonschema_rs
from cli.commands import call, ok

from batchgen.manifests import DEFAULT_MODEL, load_models

KLING = "kling/kling-3.0/pro/image-to-video"


def test_the_schema_is_that_of_the_model_that_was_asked_for() -> None:
    default = json.loads(ok("schema", "manifest").out)
    kling = json.loads(ok("schema", "manifest", "--model", KLING).out)
    every = json.loads(ok("schema", "manifest", "--all").out)

    for schema in (default, kling, every):
        jsonschema_rs.meta.validate(schema)
    assert default["properties"]["model"]["enum"] == [DEFAULT_MODEL]
    assert "cfg_scale" in kling["$defs"]["job-0"]["properties"]
    assert every["properties"]["model"]["enum"] == sorted(load_models())


def test_which_schema_must_be_clear() -> None:
    assert call("schema", "manifest", "--all", "--model", KLING).code == 2
    unknown = call("schema", "manifest", "--model", "no/such")
    assert (unknown.code, "models list" in unknown.err) == (2, True)
