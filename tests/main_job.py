"""The main job for a guest of any image: moved there and back under load, by the real command line, and all is well."""

from __future__ import annotations

from pathlib import Path

from tests.limosa_command import Command, Done, Traces

LAB = """\
name: {name}
networks:
  lan: {{subnet: 10.77.1.0/24}}
  migration: {{subnet: 10.77.2.0/24, purpose: migration}}
storage:
  shared: {{kind: directory}}
hosts:
  host1: {{}}
  host2: {{}}
guests:
  guest1: {{image: {image}, host: host1, memory: {memory}, network: lan, address: 10.77.1.100}}
"""
CHECKS = {"guest-alive", "disk-writes", "memory-checksum", "single-copy", "ssh-session"}


def lab_file(folder: Path, name: str, image: str, memory: str = "768 MiB") -> Path:
    """The lab file of two hosts and one guest, whose image is said as YAML."""
    file = folder / f"{name}.yaml"
    file.write_text(LAB.format(name=name, image=image, memory=memory))
    return file


def goes_through(command: Command, file: Path, *, within_s: float) -> Done:
    """Run the demo on *file*: both migrations and every check succeed, and nothing is left."""
    traces = Traces(command.home)
    done = command.run("demo", "--lab", str(file), "--json", timeout_s=within_s)
    assert done.returncode == 0, done
    assert done.json["passed"] is True
    rows = done.json["summary"]["migrations"]
    assert [(row["source"], row["target"], row["outcome"]) for row in rows] == [
        ("host1", "host2", "completed"),
        ("host2", "host1", "completed"),
    ]
    checks = {check["name"]: check["passed"] for check in done.json["summary"]["checks"]}
    assert checks.keys() >= CHECKS
    assert all(checks.values()), checks
    traces.assert_gone(within_s=0)
    return done
