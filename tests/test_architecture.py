"""The structure the project promises, held by `ast`; each check is first seen to fail on a planted violation."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from tests.purity import PURE

ROOT = Path(__file__).parent.parent
PACKAGES = ("api", "engine", "fleet", "infra", "migrations")
Tree = dict[str, str]  # path from the root → source text

SIMULATED = (
    "fleet.agents.client",
    "fleet.agents.keys",
    "fleet.agents.protocol",
    "fleet.agents.signature",
    "fleet.agents.samples",
    "fleet.agents.families",
    "fleet.agents.exporter",
)
LOGINS = ("fleet.agents.access_spec", "fleet.agents.public_keys", "fleet.agents.root_logins")
# Who may import what, longest prefix first. A folder may always import itself.
MAY_IMPORT = {
    "engine": ("engine",),
    "fleet/agents": ("fleet.agents", "engine"),
    "fleet/remote.py": ("fleet", "engine.device"),
    # Simulated nodes speak and look as agents do.
    "fleet/simulation": ("fleet", "!fleet.agents", *SIMULATED),
    "fleet": (
        "fleet",
        "!fleet.agents",
        "fleet.agents.protocol",
        "fleet.agents.root_release",
        "fleet.agents.root_verbs",
        "fleet.agents.signature",
        *LOGINS,
    ),
    "api": ("api", "fleet", "!fleet.agents", "fleet.agents.protocol", "fleet.agents.signature"),
    "migrations": ("migrations", "fleet", "!fleet.agents"),
    "infra": ("infra", "fleet", "!fleet.agents", "fleet.agents.protocol"),
}
# A third-party library is touched only by its owners.
OWNERS = {
    "paramiko": ("fleet/ssh.py",),
    "fastapi": ("api/",),
    "starlette": ("api/",),
    "uvicorn": ("api/",),
    "sqlalchemy": ("fleet/", "!fleet/agents/", "migrations/"),
    "alembic": ("fleet/db.py", "migrations/"),
    "httpx": (
        "fleet/client_wire.py",
        "fleet/client_events.py",
        "fleet/client_commands.py",
        "fleet/guard.py",
        "fleet/agents/client.py",
        "fleet/simulation/wire.py",
    ),
    "typer": (
        "fleet/cli",
        "fleet/simulation/cli.py",
        "fleet/command.py",
        "fleet/agents/cli.py",
        "api/",
        "engine/cli.py",
    ),
    "cronsim": ("fleet/firetimes.py",),
    "zoneinfo": ("fleet/firetimes.py",),
    "cryptography": (
        "fleet/secrets_kept.py",
        "fleet/identities.py",
        "fleet/authority.py",
        "fleet/agents/keys.py",
    ),
    "prometheus_client": ("fleet/metrics.py", "fleet/cron_metrics.py", "fleet/instruments.py"),
    "numpy": ("engine/",),
    "pynvml": ("fleet/agents/probes/nvml",),
    "amdsmi": ("fleet/agents/probes/amdsmi.py",),
    "llvmlite": ("engine/",),
    "safetensors": ("engine/nn/checkpoint.py",),
}
IMPURE_LIBRARIES = frozenset(
    (
        *("asyncio", "ctypes", "datetime", "fcntl", "httpx", "io", "logging", "mmap", "multiprocessing"),
        *("os", "pathlib", "random", "secrets", "select", "shutil", "signal", "socket", "sqlalchemy"),
        *("sqlite3", "subprocess", "tempfile", "threading", "time", "urllib", "uuid"),
    )
)
LOCKS = ("threading.Lock", "threading.RLock")  # a lock touches nothing but its own threads
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval"})
# Vendor libraries heavy or absent enough to be imported where they are opened.
MAY_HIDE = frozenset(
    {"paramiko", "amdsmi", "pynvml", "cuda", "pyopencl", "wgpu", "ortools", "onnx", "llvmlite"}
)
REFUSED_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?|base|core|handlers?)(_|$)")
LONGEST = 500


@cache
def source_tree() -> Tree:
    """Every Python file of the packages and the tests."""
    found: Tree = {}
    for top in (*PACKAGES, "tests"):
        for path in sorted((ROOT / top).rglob("*.py")):
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
    return found


@cache
def parsed(text: str) -> ast.Module:
    """A source's tree; the same text is parsed once for all checks."""
    return ast.parse(text)


@cache
def nodes(text: str) -> tuple[ast.AST, ...]:
    """Every node of a source."""
    return tuple(ast.walk(parsed(text)))


def packages_only(tree: Tree) -> Tree:
    """The tree without tests."""
    return {path: text for path, text in tree.items() if not path.startswith("tests/")}


def module_name(path: str) -> str:
    """fleet/agents/plan.py → fleet.agents.plan."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def imports(text: str) -> tuple[tuple[int, str, int], ...]:
    """(line, module, level) of every import; `from a import b` gives a.b."""
    return tuple(found_imports(nodes(text)))


def found_imports(tree: Iterable[ast.AST]) -> Iterator[tuple[int, str, int]]:
    """The imports among some nodes."""
    for node in tree:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                (node.lineno, f"{node.module or ''}.{alias.name}", node.level) for alias in node.names
            )


def under(module: str, prefix: str) -> bool:
    """True when `module` is `prefix` or lies in it."""
    return module == prefix or module.startswith(prefix + ".")


def allowed(name: str, rules: tuple[str, ...]) -> bool:
    """The last rule that matches decides; a rule that starts with ! forbids."""
    verdict = False
    for rule in rules:
        if under(name, rule.removeprefix("!")):
            verdict = not rule.startswith("!")
    return verdict


def upward_imports(tree: Tree) -> list[str]:
    """Imports against the direction api → fleet → fleet.agents → engine."""
    wrong = []
    for path, text in packages_only(tree).items():
        scope = max((p for p in MAY_IMPORT if path == p or path.startswith(p + "/")), key=len)
        for line, name, _ in imports(text):
            if name.split(".")[0] in PACKAGES and not allowed(name, MAY_IMPORT[scope]):
                wrong.append(f"{path}:{line} imports {name}")
    return wrong


def relative_imports(tree: Tree) -> list[str]:
    """`from . import x`: absolute imports only."""
    return [f"{path}:{line}" for path, text in tree.items() for line, _, level in imports(text) if level]


def hidden_imports(tree: Tree) -> list[str]:
    """Imports inside a function, but for vendor libraries that are opened there."""
    wrong = []
    for path, text in packages_only(tree).items():
        for function in nodes(text):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for line, name, _ in found_imports(ast.walk(function)):
                if name.split(".")[0] not in MAY_HIDE:
                    wrong.append(f"{path}:{line} imports {name} inside {function.name}")
    return wrong


def import_cycles(tree: Tree) -> list[str]:
    """Groups of modules that import each other, found by walking depth first."""
    modules = {module_name(path): text for path, text in packages_only(tree).items()}
    edges = {name: direct_imports(text, modules) - {name} for name, text in modules.items()}
    state: dict[str, str] = {}
    wrong: list[str] = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if state.get(name) == "open":
            wrong.append(" → ".join([*trail[trail.index(name) :], name]))
        if name in state:
            return
        state[name] = "open"
        for target in sorted(edges[name]):
            visit(target, (*trail, name))
        state[name] = "done"

    for name in sorted(edges):
        visit(name, ())
    return wrong


def direct_imports(text: str, modules: dict[str, str]) -> set[str]:
    """The project's modules that a source imports at run time (TYPE_CHECKING blocks do not count)."""
    found = set()
    body = [node for node in parsed(text).body if not is_type_checking(node)]
    for _, name, _ in found_imports(chain.from_iterable(map(ast.walk, body))):
        module = name if name in modules else name.rpartition(".")[0]
        found |= {module} & modules.keys()
    return found


def is_type_checking(node: ast.stmt) -> bool:
    """An `if TYPE_CHECKING:` block."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def foreign_libraries(tree: Tree) -> list[str]:
    """Third-party libraries imported by a file that does not own them."""
    wrong = []
    for path, text in packages_only(tree).items():
        for line, name, _ in imports(text):
            owners = OWNERS.get(name.split(".")[0])
            if owners is not None and not owns(path, owners):
                wrong.append(f"{path}:{line} imports {name}; it belongs to {', '.join(owners)}")
    return wrong


def owns(path: str, owners: tuple[str, ...]) -> bool:
    """The last owner that matches decides; one that starts with ! forbids."""
    verdict = False
    for owner in owners:
        if path.startswith(owner.removeprefix("!")):
            verdict = not owner.startswith("!")
    return verdict


def impure_modules(tree: Tree) -> list[str]:
    """Pure modules that touch the world."""
    wrong = []
    for path in PURE:
        text = tree.get(path)
        if text is None:
            continue
        found = [(line, name) for line, name, _ in imports(text) if name not in LOCKS]
        wrong += [
            f"{path}:{line} imports {name}" for line, name in found if name.split(".")[0] in IMPURE_LIBRARIES
        ]
        for node in nodes(text):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in IMPURE_CALLS
            ):
                wrong.append(f"{path}:{node.lineno} calls {node.func.id}")
    return wrong


def long_files(tree: Tree) -> list[str]:
    """Files over the limit."""
    sizes = {path: text.count("\n") + 1 for path, text in tree.items()}
    return [f"{path} has {size} lines" for path, size in sizes.items() if size > LONGEST]


def refused_names(tree: Tree) -> list[str]:
    """Files and classes named after nothing."""
    wrong = [path for path in tree if REFUSED_NAMES.search(Path(path).stem)]
    for path, text in packages_only(tree).items():
        for node in nodes(text):
            if isinstance(node, ast.ClassDef) and node.name.lower().endswith(
                ("utils", "helper", "manager", "handler")
            ):
                wrong.append(f"{path}:{node.lineno} class {node.name}")
    return wrong


def dangerous_calls(tree: Tree) -> list[str]:
    """Code that runs what it reads, or trusts whom it meets."""
    wrong = []
    for path, text in packages_only(tree).items():
        for line, name, _ in imports(text):
            if name.split(".")[0] in ("pickle", "marshal", "shelve", "cloudpickle", "dill"):
                wrong.append(f"{path}:{line} imports {name}")
        for node in nodes(text):
            if isinstance(node, ast.keyword) and ast.unparse(node.value) in ("True", "False"):
                given = f"{node.arg}={ast.unparse(node.value)}"
                if given in ("shell=True", "verify=False", "allow_pickle=True", "check_hostname=False"):
                    wrong.append(f"{path}:{node.value.lineno} {given}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "os.system",
                "os.popen",
                "eval",
                "exec",
            ):
                wrong.append(f"{path}:{node.lineno} {ast.unparse(node.func)}")
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).endswith("AutoAddPolicy"):
                wrong.append(f"{path}:{node.lineno} AutoAddPolicy")
    return wrong


STATEMENTS = frozenset(
    {"text", "execute", "executescript", "executemany", "exec_driver_sql", "scalar", "scalars"}
)


def composed_statements(tree: Tree) -> list[str]:
    """SQL that is put together from values: a bound parameter cannot be mistaken for SQL."""
    wrong = []
    for path, text in packages_only(tree).items():
        for node in nodes(text):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] not in STATEMENTS:
                continue
            for given in node.args[:1]:
                if is_composed(given) and not ast.unparse(node.func).startswith(("Text", "rich.")):
                    wrong.append(f"{path}:{node.lineno} {ast.unparse(node.func)}({ast.unparse(given)[:60]})")
    return wrong


def is_composed(given: ast.expr) -> bool:
    """An f-string with values, a sum or a % of texts, or a format()."""
    if isinstance(given, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in given.values)
    if isinstance(given, ast.BinOp):
        return any(isinstance(each, ast.Constant | ast.JoinedStr) for each in (given.left, given.right))
    return isinstance(given, ast.Call) and ast.unparse(given.func).endswith(".format")


PRINCIPALS = frozenset(
    {
        *(
            "Anybody",
            "QuotaAdmin",
            "Reader",
            "Scraper",
            "Writer",
            "Operator",
            "Truster",
            "TokenAdmin",
            "JoinAdmin",
            "PeopleAdmin",
        ),
        *(
            "SecretAdmin",
            "WebhookAdmin",
            "Collecting",
            "KeyHolder",
            "GrantAdmin",
            "NodeIdentity",
            "Holder",
            "Uploader",
        ),
        "JoinSecret",
    }
)
PUBLIC_ROUTES = frozenset({"livez", "readyz", "install_script", "release_file"})
VERBS = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "api_route", "websocket"})


def open_routes(tree: Tree) -> list[str]:
    """Endpoints that ask for no principal, and routers that would take such a one."""
    wrong = []
    for path, text in packages_only(tree).items():
        for node in nodes(text):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("APIRouter", "fastapi.APIRouter"):
                wrong.append(f"{path}:{node.lineno} APIRouter: use api.routing.Router")
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_endpoint(node):
                asked = {ast.unparse(each.annotation) for each in node.args.args if each.annotation}
                if not asked & PRINCIPALS and node.name not in PUBLIC_ROUTES:
                    wrong.append(f"{path}:{node.lineno} {node.name} asks for no principal")
    return wrong


def is_endpoint(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A function that a router or an application is given."""
    calls = [each.func for each in function.decorator_list if isinstance(each, ast.Call)]
    return any(
        isinstance(each, ast.Attribute)
        and each.attr in VERBS
        and ast.unparse(each.value) in ("router", "app")
        for each in calls
    )


def busy_package_files(tree: Tree) -> list[str]:
    """fleet and fleet.agents run their __init__ whenever anything below is imported: docstrings only."""
    wrong = []
    for path in ("fleet/__init__.py", "fleet/agents/__init__.py"):
        body = parsed(tree.get(path, '"""."""')).body
        if len(body) != 1 or ast.get_docstring(parsed(tree.get(path, '"""."""'))) is None:
            wrong.append(path)
    return wrong


def undocumented_modules(tree: Tree) -> list[str]:
    """Modules that do not say what they are for."""
    return [
        path
        for path, text in packages_only(tree).items()
        if text.strip() and not ast.get_docstring(parsed(text))
    ]


CHECKS: list[tuple[Callable[[Tree], list[str]], Tree]] = [
    (upward_imports, {"engine/ir.py": "import fleet.jobs"}),
    (upward_imports, {"fleet/jobs.py": "from fleet.agents import worker"}),
    (upward_imports, {"fleet/jobs.py": "from engine.device import Device"}),
    (upward_imports, {"api/app.py": "from engine import search"}),
    (relative_imports, {"fleet/jobs.py": "from . import leases"}),
    (hidden_imports, {"fleet/jobs.py": "def f():\n    import fleet.leases\n"}),
    (import_cycles, {"engine/a.py": "import engine.b", "engine/b.py": "from engine import a"}),
    (foreign_libraries, {"fleet/agents/worker.py": "from sqlalchemy import select"}),
    (foreign_libraries, {"fleet/jobs.py": "import fastapi"}),
    (impure_modules, {"fleet/plan.py": "from time import monotonic"}),
    (impure_modules, {"engine/ir.py": "def f():\n    return open('x')\n"}),
    (long_files, {"engine/ir.py": "\n" * LONGEST}),
    (refused_names, {"fleet/job_utils.py": ""}),
    (refused_names, {"fleet/jobs.py": "class JobManager: pass"}),
    (dangerous_calls, {"engine/store.py": "import pickle"}),
    (dangerous_calls, {"engine/store.py": "run(x, shell=True)"}),
    (dangerous_calls, {"fleet/jobs.py": "from cloudpickle import loads"}),
    (dangerous_calls, {"fleet/client.py": "httpx.get(url, verify=False)"}),
    (dangerous_calls, {"fleet/ssh.py": "client.set_missing_host_key_policy(paramiko.AutoAddPolicy())"}),
    (dangerous_calls, {"engine/tracing.py": "eval(source)"}),
    (
        composed_statements,
        {"fleet/jobs.py": "session.execute(text(f'DELETE FROM jobs WHERE id = {job_id}'))"},
    ),
    (composed_statements, {"fleet/jobs.py": "text('SELECT * FROM ' + table)"}),
    (composed_statements, {"fleet/db.py": "connection.exec_driver_sql('SELECT %s' % name)"}),
    (composed_statements, {"fleet/db.py": "connection.execute('SELECT {}'.format(name))"}),
    (open_routes, {"api/routes/jobs.py": "@router.get('/x')\ndef x(session: Reading) -> None: ..."}),
    (open_routes, {"api/routes/jobs.py": "router = APIRouter()"}),
    (busy_package_files, {"fleet/__init__.py": '"""Doc."""\nimport fleet.jobs\n'}),
    (undocumented_modules, {"fleet/jobs.py": "x = 1"}),
]


@pytest.mark.parametrize(
    ("check", "planted"), CHECKS, ids=[f"{c.__name__}-{i}" for i, (c, _) in enumerate(CHECKS)]
)
def test_a_planted_violation_is_found(check: Callable[[Tree], list[str]], planted: Tree) -> None:
    assert check(planted), f"{check.__name__} did not see {planted}"


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in CHECKS), ids=lambda c: c.__name__)
def test_the_tree_keeps_the_rule(check: Callable[[Tree], list[str]]) -> None:
    assert check(source_tree()) == []


def test_every_pure_module_of_the_list_exists() -> None:
    assert [path for path in PURE if not (ROOT / path).exists()] == []


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after a statement."""
    program = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


AGENT_REFUSES = frozenset({"sqlalchemy", "fastapi", "alembic", "paramiko", "engine", "numpy", "llvmlite"})


@pytest.mark.parametrize("module", ["fleet.agents.worker", "fleet.agents.cli", "fleet.agents.__main__"])
def test_the_agent_loads_no_engine_and_no_control_plane(module: str) -> None:
    assert loaded_by(f"import {module}") & AGENT_REFUSES == set()


@pytest.mark.parametrize("module", ["fleet.client", "fleet.cli", "fleet.command"])
def test_the_client_loads_no_engine_and_no_control_plane(module: str) -> None:
    assert loaded_by(f"import {module}") & (AGENT_REFUSES | {"api"}) == set()


def test_the_probe_for_loaded_modules_sees_what_is_loaded() -> None:
    assert "engine" in loaded_by("import engine.ir")
