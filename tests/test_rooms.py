"""The library's rooms: imports go down only, and every module is used."""

from tests.rooms import MAY_IMPORT, ROOT, graph, import_closure


def test_rooms_import_only_what_lies_below_them() -> None:
    assert list(graph()) == list(MAY_IMPORT)
    for room, others in graph().items():
        assert others <= MAY_IMPORT[room], room
    order = list(MAY_IMPORT)
    assert all(order.index(other) < order.index(room) for room, others in MAY_IMPORT.items() for other in others)


def test_no_module_lies_outside_the_rooms() -> None:
    assert [path.name for path in (ROOT / "quarterturn").glob("*.py")] == ["__init__.py"]


def test_every_module_is_used_by_a_stage_the_command_or_a_study() -> None:
    used = import_closure("quarterturn.app.cli")
    for folder in ("stages", "studies"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= import_closure(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."))
    for path in (ROOT / "quarterturn").rglob("*.py"):
        assert path.name == "__init__.py" or path.relative_to(ROOT).as_posix() in used
