"""fio: its command lines and what it prints. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from limosa.errors import LimosaError

FILE = "/root/limosa.fio"
SIZE = "64M"
DEPTH = 16
"""Requests under way at once: enough to keep a queue busy, few enough for SATA's 32."""


@dataclass(frozen=True, slots=True)
class Job:
    """One way to read or write. ``direction`` is where fio counts it."""

    name: str
    label: str
    pattern: str
    block: str
    direction: Literal["read", "write"]
    unit: Literal["IO/s", "bytes/s"]


JOBS = (
    Job("random-read", "random read, 4 KiB", "randread", "4k", "read", "IO/s"),
    Job("random-write", "random write, 4 KiB", "randwrite", "4k", "write", "IO/s"),
    Job("sequential-read", "sequential read, 1 MiB", "read", "1M", "read", "bytes/s"),
    Job("sequential-write", "sequential write, 1 MiB", "write", "1M", "write", "bytes/s"),
)


@dataclass(frozen=True, slots=True)
class Transferred:
    """What one job did. ``seconds`` ends with the rest of ``total``, in I/Os or bytes as the job's unit says."""

    total: float
    duration_s: float
    seconds: tuple[float, ...]
    latency_median_s: float | None


def arguments(job: Job, time_s: int) -> tuple[str, ...]:
    """What follows the program's name. The guest's page cache is passed by: the device is measured."""
    return (
        *(f"--name={job.name}", f"--filename={FILE}", f"--size={SIZE}", f"--rw={job.pattern}", f"--bs={job.block}"),
        *("--direct=1", "--ioengine=libaio", f"--iodepth={DEPTH}", "--time_based", f"--runtime={time_s}"),
        *("--norandommap", "--output-format=json", "--status-interval=1"),
    )


def layout() -> tuple[str, ...]:
    """Write the file once, so that no later job measures how a file grows."""
    size = (f"--filename={FILE}", f"--size={SIZE}", "--rw=write", "--bs=1M")
    return ("--name=layout", *size, "--direct=1", "--ioengine=libaio", "--end_fsync=1", "--output-format=json")


def parse(text: str, job: Job) -> Transferred:
    """The job's figures. fio prints one document a second with its counts so far, then the last. Raises LimosaError."""
    documents = _documents(text)
    try:
        states = [document["jobs"][0][job.direction] for document in documents]
        key = "total_ios" if job.unit == "IO/s" else "io_bytes"
        counts = [float(state[key]) for state in states]
        duration_s = float(states[-1]["runtime"]) / 1000
        median_ns = states[-1].get("clat_ns", {}).get("percentile", {}).get("50.000000")
        median_s = None if median_ns is None else float(median_ns) / 1e9
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise LimosaError(f"fio's answer is not understood: {error!r}") from error
    if duration_s <= 0 or counts[-1] <= 0:
        raise LimosaError(f"fio transferred nothing in {job.label}")
    steps = [after - before for before, after in zip([0.0, *counts], counts, strict=False)]
    return Transferred(counts[-1], duration_s, tuple(steps), median_s)


def _documents(text: str) -> list[dict[str, Any]]:
    decoder, found, at = json.JSONDecoder(), list[dict[str, Any]](), text.find("{")
    while at >= 0:
        try:
            document, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise LimosaError("fio did not end as it should: its last document is cut off") from error
        found.append(document)
        at = text.find("{", end)
    if not found:
        raise LimosaError(f"fio did not answer with JSON: {text.strip()[:80] or 'nothing'}")
    return found
