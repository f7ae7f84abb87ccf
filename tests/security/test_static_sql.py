"""No text that was put together reaches the database: found in the code, without running it.

Statements are names of queries in ``.sql`` files, literals, or what ``psycopg.sql`` composes, and composing happens in few
places that are listed here. An f-string, ``%``, ``+`` or ``format`` on the way into ``execute`` or ``sql.SQL`` fails.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "functions").rglob("*.py")])

#: Calls whose first argument is a statement.
EXECUTES = {"execute", "executemany", "copy", "stream", "fetch_one", "fetch_all"}
#: Where ``psycopg.sql`` composes statements, and why a fixed text would not do.
COMPOSERS = {
    "cli/laptop/postgres.py": "the name of the laptop's database, a constant",
    "persistence/filters.py": "searches: columns by enum, everything else bound",
    "persistence/threads.py": "the columns of a search",
    "persistence/assistants.py": "the columns of a search",
    "persistence/runs.py": "the columns of a search",
}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def is_put_together(node: ast.AST, known: dict[str, ast.AST]) -> bool:
    """Whether an expression makes a text of parts."""
    if isinstance(node, ast.Name) and node.id in known:
        return is_put_together(known[node.id], {name: value for name, value in known.items() if name != node.id})
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.Add)):
        sides = (node.left, node.right)
        composed = any(isinstance(side, ast.Call) and "SQL" in ast.dump(side.func) for side in sides)
        return not composed and not all(isinstance(side, ast.Constant) for side in sides)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        receiver = node.func.value
        if node.func.attr in ("format", "replace", "join") and not (
            isinstance(receiver, ast.Call) or (isinstance(receiver, ast.Name) and receiver.id in known)
        ):
            return True
        return is_put_together(receiver, known)
    return False


def findings(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for function in [
        tree,
        *(node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))),
    ]:
        known = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for name, call in calls(function):
            if (name in EXECUTES or name == "SQL") and call.args and is_put_together(call.args[0], known):
                found.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    return sorted(set(found))


def test_statements_are_not_put_together() -> None:
    assert [place for path in SOURCES for place in findings(path)] == []


def test_composing_happens_where_it_is_said_to() -> None:
    package = ROOT / "core" / "langgraph_serverless"
    composing = {
        str(path.relative_to(package)): path
        for path in SOURCES
        if path.is_relative_to(package)
        and any(name in ("SQL", "Identifier") for name, _ in calls(ast.parse(path.read_text())))
    }
    assert sorted(set(composing) - set(COMPOSERS)) == []
    for path in composing.values():
        assert "sql.Literal(" not in path.read_text(), "values are bound"


@pytest.mark.parametrize(
    "code",
    [
        'connection.execute(f"SELECT {name}")',
        'connection.execute("SELECT " + name)',
        'connection.execute("SELECT %s" % name)',
        'connection.execute("SELECT {}".format(name))',
        'query = f"SELECT {name}"\nconnection.execute(query)',
        'connection.execute(sql.SQL(f"SELECT {name}"))',
        'connection.execute(sql.SQL("SELECT " + name).format(x))',
    ],
)
def test_the_check_finds(tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "code.py").write_text(code)
    assert findings(tmp_path / "code.py"), code


def test_the_check_lets_bound_values_through(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        'connection.execute(QUERIES["get"], {"id": f"{a}"})\n'
        'connection.execute(sql.SQL("SELECT {}").format(sql.Identifier(name)))\n'
        'connection.execute("SELECT 1" " FROM t")\n'
    )
    assert findings(tmp_path / "code.py") == []
