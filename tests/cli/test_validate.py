from pathlib import Path

from cli.commands import call, ok, rows, write


def test_every_fault_of_every_file_comes_at_once() -> None:
    one = write("one.csv", [*rows("a"), {"id": "a", "prompt": "x", "image": "ftp://x"}])
    two = write("two.csv", rows("b"))
    three = write("three.csv", [{**rows("c")[0], "duration": "7"}])

    done = call("validate", one, two, three)

    assert done.code == 5
    assert "two.csv: no faults, 1 job" in done.out
    assert "one.csv:3: id: " in done.err
    assert "one.csv:3: image: " in done.err
    assert "three.csv:2: duration: " in done.err


def test_faults_are_data_with_json() -> None:
    bad = write("bad.csv", [{**rows("c")[0], "duration": "7"}])

    done = call("validate", bad, "nowhere.csv", "--json")

    assert done.code == 5
    faults = done.said["faults"]
    assert done.said["valid"] is False
    assert [(fault["file"], fault["line"], fault["column"]) for fault in faults] == [
        ("bad.csv", 2, "duration"),
        ("nowhere.csv", 0, ""),
    ]
    assert all(fault["message"] for fault in faults)


def test_nothing_is_stored() -> None:
    before = sorted(Path.cwd().iterdir())
    good = write("good.csv", rows("a", "b"))

    done = ok("validate", good)

    assert "2 jobs to pay for: about $0.50" in done.out
    assert sorted(Path.cwd().iterdir()) == sorted([*before, Path.cwd() / good])


def test_a_stored_batch_is_compared_with() -> None:
    good = write("good.csv", rows("a", "b"))
    ok("add", good)
    write("good.csv", rows("a", "b", "c"))

    counts = ok("validate", good, "--json").said["manifests"][0]["counts"]

    assert counts["new"] == 1
    assert counts["unchanged"] == 2


def test_too_much_is_refused() -> None:
    many = write("many.csv", [{**rows("a")[0], "repeat": "11"}])

    assert call("validate", many, "--max-expand", "10").code == 5
    assert call("validate", many, "--max-expand", "11").code == 0


def test_private_inputs_need_the_flag() -> None:
    private = write("private.csv", [{**rows("a")[0], "image": "http://127.0.0.1:8000/a.jpg"}])

    assert call("validate", private).code == 5
    assert call("validate", private, "--allow-private-inputs").code == 0


def test_too_much_to_expand_is_bounded_as_in_a_run() -> None:
    one = write("one.csv", rows("a"))

    refused = call("validate", one, "--max-expand", "1000000001")

    assert refused.code == 2
    assert "1<=x<=1000000000" in refused.err
    assert "Refuse a manifest that expands beyond this." in ok("validate", "--help").out
