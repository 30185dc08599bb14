"""Alpine's installation script against terminals that ask what each generation of setup-alpine asks."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import setup_alpine_replay
from console_program import program

from limosa.errors import LimosaError
from limosa.events import Events
from limosa.guest.installer import (
    Prompt,
    Script,
    Step,
    Surprise,
    alpine,
    alpine_medium,
    debian,
    installation,
    play,
    player,
    virtual_machine,
)
from limosa.guest.installer.alpine_medium import Mirror
from limosa.guest.installer.installation import HOST_KEY

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey limosa-alpine"
SOURCE = Path(setup_alpine_replay.__file__).read_text()
LIMITS = alpine.Limits(boot_s=10, answer_s=10, command_s=10)


def wishes(*, online: bool = False, as_a_person: bool = True, password: str = "") -> alpine.Wishes:
    return alpine.Wishes(
        hostname=setup_alpine_replay.HOSTNAME,
        authorized_keys=(KEY,),
        typed_password=password or "x" * setup_alpine_replay.PASSWORD_LENGTH,
        password=password,
        branch="v3.15",
        mirror=alpine.MIRROR if online else "",
        as_a_person=as_a_person,
    )


async def replay(directory: Path, generation: str, as_a_person: bool) -> None:
    online = generation.endswith("-online")
    script = alpine.install_script(wishes(online=online, as_a_person=as_a_person), LIMITS)
    async with program(SOURCE, directory, [generation]) as console:
        try:
            await play(script, console, Events())
        except Surprise as surprise:
            told = re.findall(r"REPLAY: .*", console.text)
            pytest.fail(f"{generation}: {told} {surprise}")
        said = HOST_KEY.search(console.text)
        assert re.search(r"REPLAY: (\d+) commands, all well", console.text)
        assert said is not None
        assert said.group(1) == "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIReplay"


@pytest.mark.parametrize("as_a_person", [True, False], ids=["as-a-person", "answer-file"])
async def test_every_generation_gets_the_answers_it_asks_for_and_only_then(
    tmp_path: Path, as_a_person: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player, "SETTLED_S", 0.1)  # only to be quicker: this terminal is never slow in between
    # With a network, an answer file names the mirror, and no question is left of it.
    chosen = [name for name in setup_alpine_replay.GENERATIONS if as_a_person or not name.endswith("-online")]
    await asyncio.gather(*(replay(tmp_path / name, name, as_a_person) for name in chosen))


async def test_a_setup_that_gives_up_is_a_surprise_that_shows_why(tmp_path: Path) -> None:
    # As the disk step was seen to fail with a medium that lacks the boot loader's package.
    source = r"""
print("How would you like to use it? ('sys', 'data' or '?' for help) [?] ", end="", flush=True); input()
print("ERROR: unable to select packages:\n  syslinux (no such package):\n    required by: world[syslinux]")
input("lab-alpine:~# ")
"""
    script = Script("alpine", (Step("setup-alpine", alpine.dialogue(wishes()), 10),))
    async with program(source, tmp_path) as console:
        with pytest.raises(Surprise, match="setup-alpine ended without having installed") as caught:
            await play(script, console, Events())
    assert "syslinux (no such package)" in caught.value.message


@pytest.mark.parametrize(
    "said",
    [
        "Booting from DVD/CD...\r\nBoot failed: Could not read from CDROM (code 0009)\r\nNo bootable device.\r\n",
        "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n",
        # The words of two generations of mkinitfs.
        "initramfs emergency recovery shell launched. Type 'exit' to continue boot\r\n",
        "/sbin/init not found in new root\r\nLaunching initramfs emergency recovery shell.\r\n~ # ",
    ],
)
async def test_a_medium_that_does_not_boot_is_told_at_once(tmp_path: Path, said: str) -> None:
    async with program(f"print({said!r}); input()", tmp_path) as console:
        with pytest.raises(Surprise, match=r"nothing there boots|the kernel gave up|its initramfs gave up"):
            await play(alpine.install_script(wishes(), LIMITS), console, Events())


def test_the_password_is_nowhere_but_in_its_answers() -> None:
    password = "Tz7-correct-horse"
    for as_a_person in (True, False):
        assert password not in repr(alpine.install_script(wishes(as_a_person=as_a_person, password=password), LIMITS))
        assert password not in repr(wishes(password=password))


def test_a_key_is_let_in_beside_others() -> None:
    lines = dict(alpine.finishing(wishes().letting_in("ssh-ed25519 BBBB second")))
    assert lines["type the keys, part 1"].startswith(f"printf '%b' '{KEY}\\nssh-ed25519 BBBB second\\n' > ")


def test_no_line_is_longer_than_a_shell_takes(tmp_path: Path) -> None:
    """busybox's shell loses what is typed beyond 1023 characters; keys of RSA are long, and there may be several."""
    keys = [f"ssh-rsa {letter * 716} a\\person's-{letter}%s" for letter in "AB"]
    chosen = dataclasses.replace(wishes(online=True), authorized_keys=tuple(keys), mirror="https://" + "m" * 200)
    script = alpine.install_script(dataclasses.replace(chosen, as_a_person=False), LIMITS)
    typed = [p.answer for step in script.steps for p in step.prompts if isinstance(p.answer, str)]
    assert max(len(line) for line in typed) < 1000
    for name, line in alpine.finishing(chosen):
        if name.startswith("type the keys"):
            here = line.replace("/tmp/limosa-keys", str(tmp_path / "keys"))
            subprocess.run(["busybox", "ash", "-c", here], check=True)
    pieces = sorted(tmp_path.iterdir())
    assert len(pieces) > 3
    assert "".join(piece.read_text() for piece in pieces) == "".join(f"{key}\n" for key in keys)


FILES = {
    "etc/ssh/sshd_config": "# A comment\n#PermitRootLogin prohibit-password\nPermitRootLogin yes\nMatch User x\n",
    "etc/inittab": "::sysinit:/sbin/openrc sysinit\n#ttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100\n",
    "etc/securetty": "console\ntty1\n",
    "etc/shadow": "root:$6$salt$hash:19000:0:::::\nbin:!::0:::::\n",
    "etc/update-extlinux.conf": 'default_kernel_opts="quiet rootfstype=ext4"\nserial_port=\nserial_baud=9600\n',
    "boot/extlinux.conf": "DEFAULT menu.c32\nLABEL virt\n  LINUX vmlinuz\n  APPEND root=UUID=1 modules=ext4 quiet\n",
    "etc/default/grub": 'GRUB_TIMEOUT=2\nGRUB_CMDLINE_LINUX_DEFAULT="modules=ext4 quiet"\n',
    "boot/grub/grub.cfg": "menuentry 'Alpine' {\n\tlinux\t/boot/vmlinuz-virt root=UUID=1 quiet\n\tinitrd /x\n}\n",
    "etc/apk/repositories": "#/media/cdrom/apks\n",
}


def test_the_options_of_extlinux_are_added_to_with_and_without_quotes(tmp_path: Path) -> None:
    file = tmp_path / "etc/update-extlinux.conf"
    file.parent.mkdir()
    file.write_text("# default_kernel_opts\ndefault_kernel_opts=quiet\nserial_port=\n")
    for name, line in alpine._boot_loader():
        if name.endswith("update-extlinux.conf"):
            subprocess.run(["busybox", "ash", "-c", line.replace("/mnt", str(tmp_path))], check=True)
    options = "no_timer_check console=tty0 console=ttyS0,115200 quiet"
    assert file.read_text() == f'# default_kernel_opts\ndefault_kernel_opts="{options}"\nserial_port=\n'


@pytest.mark.parametrize("times", [1, 2])
def test_the_finishing_lines_do_to_a_tree_what_they_say(tmp_path: Path, times: int) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    root = tmp_path / "mnt"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "etc/runlevels/default").mkdir(parents=True)
    (root / "boot/vmlinuz-virt").touch()
    lines = [
        line.replace("/mnt", str(root)).replace("/tmp/limosa-keys", str(tmp_path / "keys"))
        for name, line in alpine.finishing(wishes(online=True))
        if name
        not in ("mount the installed system", "have a host key", "read the host key", "write everything to the disk")
    ]
    for line in lines * times:
        done = subprocess.run(
            [busybox, "ash", "-c", line], capture_output=True, text=True, check=False, env={"PATH": ""}
        )
        assert done.returncode == 0, (line, done.stderr)
    texts = {name: (root / name).read_text() for name in FILES}
    assert texts["etc/ssh/sshd_config"] == "PermitRootLogin prohibit-password\n# A comment\nMatch User x\n"
    assert texts["etc/inittab"].splitlines()[2:] == ["ttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100"]
    assert texts["etc/securetty"] == "console\ntty1\nttyS0\n"
    assert texts["etc/shadow"].splitlines()[0] == "root:*:19000:0:::::"
    consoles, check = "console=tty0 console=ttyS0,115200", "no_timer_check"
    assert f'default_kernel_opts="{check} {consoles} quiet rootfstype=ext4"' in texts["etc/update-extlinux.conf"]
    assert "serial_port=0\nserial_baud=115200" in texts["etc/update-extlinux.conf"]
    assert texts["boot/extlinux.conf"].startswith("SERIAL 0 115200\nDEFAULT")
    assert f"modules=ext4 quiet {consoles} {check}\n" in texts["boot/extlinux.conf"]
    assert f'DEFAULT="{check} {consoles} modules=ext4 quiet"' in texts["etc/default/grub"]
    assert f"root=UUID=1 quiet {consoles} {check}\n" in texts["boot/grub/grub.cfg"]
    assert texts["etc/apk/repositories"] == f"{alpine.MIRROR}/v3.15/main\n{alpine.MIRROR}/v3.15/community\n"
    hook, other = root / alpine.NAME_HOOK[1:], root / alpine.DHCPCD_HOOK[1:]
    assert (hook.read_text(), hook.stat().st_mode & 0o777) == (alpine.NAME_SCRIPT, 0o755)
    assert (other.read_text(), other.stat().st_mode & 0o777) == (alpine.DHCPCD_SCRIPT, 0o644)
    assert (root / "root/.ssh/authorized_keys").read_text() == KEY + "\n"
    assert (root / "root/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    assert (root / "etc/runlevels/default/sshd").readlink() == Path("/etc/init.d/sshd")


@pytest.mark.parametrize(
    ("mirror", "wanted", "kept"),
    [
        (Mirror(), "", alpine.MIRROR),
        (Mirror(), "http://mirror.example/alpine/", "http://mirror.example/alpine"),
        (Mirror(), "http://localhost:8000", alpine.MIRROR),
        (Mirror(url="http://10.0.2.2:8000", passing=True), "http://127.0.0.1:8000", alpine.MIRROR),
        (Mirror(url="http://dl-cdn.alpinelinux.org/alpine"), "", "http://dl-cdn.alpinelinux.org/alpine"),
    ],
)
def test_an_installed_system_has_repositories_that_it_can_reach(mirror: Mirror, wanted: str, kept: str) -> None:
    """Installed without a network it had the medium's folder, which is gone then."""
    lasting = alpine_medium.lasting(mirror, wanted)
    assert lasting == kept
    offline = dataclasses.replace(wishes(), kept_mirror=lasting)
    line = dict(alpine.finishing(offline))["name the mirror"]
    assert line == f"printf '%s\\n' {kept}/v3.15/main {kept}/v3.15/community > /mnt/etc/apk/repositories"


@pytest.mark.parametrize("given", ["guest7", "", "-x", "a b", "$(reboot)"])
def test_the_name_that_dhcp_gives_is_taken(tmp_path: Path, given: str) -> None:
    """By the hook itself, in a place where a name may be given; what cannot be one is left alone."""
    unshare = ["unshare", "--user", "--map-root-user", "--uts"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine permits no user namespace, so no host name can be given")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("lab-alpine\n")
    (tmp_path / "etc/hosts").write_text("127.0.0.1\tlab-alpine localhost\n")
    hook, other = tmp_path / "limosa-name", tmp_path / "exit-hook"
    hook.write_text(alpine.NAME_SCRIPT.replace("/etc/", f"{tmp_path}/etc/"))
    hook.chmod(0o755)
    other.write_text(alpine.DHCPCD_SCRIPT.replace(alpine.NAME_HOOK, str(hook)))
    third = tmp_path / "dhclient"
    third.write_text(debian.NAME_SCRIPT.replace("/etc/", f"{tmp_path}/etc/"))
    for environment, run in (("hostname", hook), ("new_host_name", other), ("new_host_name", third)):
        told = f"hostname before; {environment}='{given}'; export {environment}; . {run}; hostname"
        if run == hook:
            told = told.replace(f". {run}", str(run))
        done = subprocess.run([*unshare, "sh", "-c", told], check=True, capture_output=True, text=True)
        assert done.stdout == ("guest7\n" if given == "guest7" else "before\n")
    named = given == "guest7"
    assert (tmp_path / "etc/hostname").read_text() == ("guest7\n" if named else "lab-alpine\n")
    added = "127.0.1.1\tguest7\n" if named else ""
    assert (tmp_path / "etc/hosts").read_text() == "127.0.0.1\tlab-alpine localhost\n" + added


async def test_a_kernel_that_gave_up_over_its_timer_is_started_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The panic comes of a busy machine and cannot be made on demand, so the installation itself is a fake here."""
    script = alpine.install_script(wishes(), LIMITS)
    first = virtual_machine.Hardware(disk=tmp_path / "disk", iso=tmp_path / "a.iso")
    second = dataclasses.replace(first, kernel=tmp_path / "vmlinuz", append=alpine.direct("", "virt"))
    started: list[virtual_machine.Hardware] = []
    panic = "Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug"

    async with program(f"print({panic!r}); input()", tmp_path) as console:

        async def once(_wanted: object, hardware: virtual_machine.Hardware, *_: object) -> str:
            started.append(hardware)
            if hardware == first:
                await play(script, console, Events())
            return "ssh-ed25519 AAAA"

        monkeypatch.setattr(installation, "_install_once", once)
        wanted = installation.Installation(
            name="alpine",
            title="Alpine",
            size_bytes=1,
            installer=first,
            again=lambda folder: second,
            script=lambda key: script,
            installed=first,
            boot=script,
            provenance={},
        )
        transcript = console.transcript
        host_key = await installation._run_installer(wanted, script, first.disk, transcript, Events(), None)
        assert host_key == "ssh-ed25519 AAAA"
        assert started == [first, second]
        words = virtual_machine.command_line(second, 3)
        assert "no_timer_check" in words[words.index("-append") + 1]
        wanted.again = lambda folder: None
        with pytest.raises(LimosaError, match="gave up over its timer"):
            await installation._run_installer(wanted, script, first.disk, transcript, Events(), None)


def test_prompts_are_tried_in_an_order_that_no_question_hides_another() -> None:
    """Each question of each generation is matched by one prompt alone: no answer depends on their order."""
    prompts: tuple[Prompt, ...] = alpine.dialogue(wishes())
    for questions in setup_alpine_replay.GENERATIONS.values():
        for question, _ in questions:
            shown = re.sub(r"\x1b[78]|\x1b\[0K", "", question)
            matching = [p.name for p in prompts if re.search(rf"(?:{p.pattern})[ \t]*\Z", shown)]
            assert len(matching) == 1, (question, matching)
