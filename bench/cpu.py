"""CPU time of a cluster's processes: by process and thread from /proc, and by part from samples of perf and py-spy.

Rates vary by half between two runs on one machine, CPU time an event by a tenth: compare versions by it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

GRPC_THREAD: Final = re.compile(r"grpc|event_engine|timer_manager|resolver|lifeguard")
SAMPLES_A_SECOND: Final = 499
STACKS_A_SECOND: Final = 199
"""Samples of stacks with native frames: each stops the process for a while."""

NATIVE: Final = {
    "kernel": r"\[kernel|\[guest|\[vdso|\[unknown\]",
    "gRPC": r"cygrpc",
    "protobuf": r"_upb|_message\.",
    "SQLite": r"apsw|sqlite",
    "jq": r"(?<!\w)_?jq",
    "JSON": r"orjson",
    "HTTP": r"httptools|llhttp",
    "event loop": r"uvloop",
    "cryptography": r"libcrypto|libssl|_hashlib|_hmac|_sha|_openssl|_rust\.abi3",
    "malloc and memcpy": r"libc\.so|ld-linux|libstdc",
}
"""Parts by the name of the library that a sample is in; the rest is the interpreter of Python."""

COLLECTING: Final = """
import gc, time
kept = [[{"a": (i, str(i)), "b": [i]}, object(), lambda: i, {i}] for i in range(20_000)]
until = time.monotonic() + 2.0
while time.monotonic() < until:
    gc.collect()
"""
"""A program that does nothing but collect garbage: where it is sampled is CPython's collector, whose functions are
static and have no symbols in most builds."""

COLLECTOR_SHARE: Final = 0.002
"""Least share of that program's samples in a block of code for it to count as the collector's."""
BLOCK_BITS: Final = 8
"""Size of these blocks: 256 bytes."""
Blocks = frozenset[tuple[str, int]]

PYTHON: Final = {
    "interpreter of flows": r"^(runner/interpreter|runner/evaluation|flowhook/expressions|flowhook/document)",
    "scheduling": r"^router/(scheduling|dispatch|executions|triggers)",
    "conversions": r"^flowhook/(wire|attach|v1|json)|google/protobuf",
    "edge": r"^(edge|flowhook/signatures|flowhook/payloads)",
    "storage": r"^router/storage",
    "streams and driver": r"^(router|runner)/|^flowhook/client",
    # frames of its Cython code have the name of its library, and what the interpreter does for it is below them
    "gRPC's Python": r"grpc",
    "event loop, and C called from it": r"asyncio|uvloop|^loop\.c|threading|concurrent",
}
"""Parts of Python code by the file that a sample is in; the rest is `other`."""


def processes(data_dir: Path) -> dict[int, str]:
    """Return the kinds of a cluster's processes by process ID, children included: edge, router, runner, admin."""
    found: dict[int, str] = {}
    for file in (data_dir / "run").glob("*.pid"):
        kind = file.stem.rpartition("-")[0] or file.stem
        with suppress(psutil.NoSuchProcess, ValueError):
            process = psutil.Process(int(file.read_text()))
            found |= {each.pid: kind for each in (process, *process.children(recursive=True))}
    return found


def cpu_time(kinds: Mapping[int, str]) -> Counter[str]:
    """Return the CPU time so far (µs) by kind of process, the router's by kind of thread.

    Source: proc(5), `schedstat`: its first field is in ns, where `stat` counts in hundredths of a second.
    """
    used: Counter[str] = Counter()
    for pid, kind in kinds.items():
        for task in Path(f"/proc/{pid}/task").glob("*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                microseconds = int((task / "schedstat").read_text().split()[0]) / 1000
                used[_part_of_thread(kind, pid, task)] += microseconds
    return used


def _part_of_thread(kind: str, pid: int, task: Path) -> str:
    if kind != "router":
        return kind
    if GRPC_THREAD.search((task / "comm").read_text()):
        return "router, gRPC's threads"
    return "router, loop" if task.name == str(pid) else "router, writer and readers"


async def parts_of(kinds: Mapping[int, str], load: Callable[[], Awaitable[object]]) -> dict[str, Counter[str]]:
    """Sample processes under a load, and return the shares (0 to 1) of their time by kind and part.

    The load is run twice, as stacks with native frames stop the processes and make them change context more often.
    Without perf there are no shares, and without py-spy those of Python are not split.
    """
    with tempfile.TemporaryDirectory(prefix="flowhook-") as folder:
        data, pids = Path(folder), ",".join(map(str, kinds))
        perf, py_spy = shutil.which("perf"), shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/bin")
        libraries = f"{perf} record -q -e task-clock -F {SAMPLES_A_SECOND} -p {pids} -o {data / 'perf'}"
        async with _sampling([libraries] if perf else []):
            await load()
        stacks = f"{py_spy} record --gil --native -f raw -d 3600 -r {STACKS_A_SECOND}"
        async with _sampling([f"{stacks} -p {pid} -o {data / kind}.{pid}" for pid, kind in kinds.items() if py_spy]):
            await load()
        native, python = await _native_samples(data / "perf", kinds), _python_samples(data)
        shares = {kind: _shares(counts) for kind, counts in native.items()}
        for kind, parts in shares.items():
            in_python = parts.pop("Python", 0.0)
            split = _shares(python.get(kind) or Counter({"": 1}))
            parts.update({f"Python, {part}".rstrip(", "): in_python * share for part, share in split.items()})
        return shares


@asynccontextmanager
async def _sampling(commands: Iterable[str]) -> AsyncIterator[None]:
    samplers = [
        await asyncio.create_subprocess_exec(
            *command.split(), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for sampler in samplers:
            with suppress(ProcessLookupError):
                sampler.send_signal(signal.SIGINT)
        await asyncio.gather(*(sampler.wait() for sampler in samplers))


async def _native_samples(file: Path, kinds: Mapping[int, str]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    if not file.exists():
        return found
    collector = await _collector(file.with_name("collecting"))
    for pid, library, block in await _perf_script(file):
        kind = kinds.get(pid)
        if kind:
            part = "garbage collection" if (library, block) in collector else _native_part(library)
            found.setdefault(kind, Counter())[part] += 1
    return found


async def _collector(file: Path) -> Blocks:
    """Return the blocks of code that are CPython's garbage collector, in the Python that runs this."""
    sampler = await asyncio.create_subprocess_exec(
        "perf", "record", "-q", "-e", "task-clock", "-F", str(SAMPLES_A_SECOND), "-o", str(file),
        sys.executable, "-c", COLLECTING, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await sampler.wait()
    blocks = Counter((library, block) for _, library, block in await _perf_script(file) if "python" in library)
    return frozenset(block for block, samples in blocks.items() if samples >= COLLECTOR_SHARE * blocks.total())


async def _perf_script(file: Path) -> list[tuple[int, str, int]]:
    """Return the samples of perf: process ID, path of the library, number of the block in it."""
    script = await asyncio.create_subprocess_exec(
        "perf", "script", "-i", str(file), "-F", "pid,ip,sym,dso,dsoff", stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    lines = (await script.communicate())[0].decode(errors="replace").splitlines()
    samples = (re.match(r"\s*(\d+) .*\((.*?)(?:\+0x([0-9a-f]+))?\)$", line) for line in lines)
    return [(int(each[1]), each[2], int(each[3] or "0", 16) >> BLOCK_BITS) for each in samples if each]


def _native_part(library: str) -> str:
    return next((part for part, pattern in NATIVE.items() if re.search(pattern, library)), "Python")


def _python_samples(folder: Path) -> dict[str, Counter[str]]:
    """Return samples by kind and part; a sample counts for the innermost file that a part names.

    Those in a library are left out: it is a part of its own, whose samples are perf's.
    """
    found: dict[str, Counter[str]] = {}
    for file in folder.glob("*.*"):
        counts = found.setdefault(file.stem, Counter())
        for line in file.read_text(errors="replace").splitlines():
            stack, _, number = line.rpartition(" ")
            files = re.findall(r"\(([^():]+)(?::\d+)?\)", stack)[::-1]
            if files and (".so" not in files[0] or _native_part(files[0]) == "Python"):
                counts[_python_part(files)] += int(number)
    return found


def _python_part(files: Iterable[str]) -> str:
    for file in files:
        for part, pattern in PYTHON.items():
            if re.search(pattern, file):
                return part
    return "other"


def _shares(counts: Counter[str]) -> Counter[str]:
    total = counts.total() or 1
    return Counter({part: number / total for part, number in counts.items()})  # type: ignore[misc]  # shares
