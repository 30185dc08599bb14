"""The REST API of one container daemon, Incus 6.0 or LXD 5.0: requests, background operations, and what they say.

Only what limosa asks of it. Answers become frozen types here; nothing behind this module sees raw JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import quote

import msgspec

from limosa import tasks, untrusted
from limosa.errors import LimosaError, MachineError
from limosa.hosts.containers.endpoint import Endpoint, Flavour, find

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

REQUEST_S = 60.0
"""The daemon answers at once, or with an operation; only a stuck one takes longer."""
SWITCH_S = 60.0
"""How long a container may take to start or stop: half a second here."""
NOT_FOUND = 404


_HINTS = {
    "idmapping abilities": "here no directory of this machine can be shown in a container; use storage of kind volume",
    "no such host": "the daemon has no network to the image server; name the alias of a local image",
}
"""What to do about some of the daemon's own words."""


class DaemonError(LimosaError):
    """The daemon refused a request, or an operation of its failed; ``code`` is as in HTTP."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Instance(msgspec.Struct, frozen=True):
    """A container as the daemon describes it."""

    name: str
    status: str
    type: str = "container"
    config: dict[str, str] = {}
    devices: dict[str, dict[str, str]] = {}
    expanded_devices: dict[str, dict[str, str]] = {}
    """With those of its profiles."""

    @property
    def running(self) -> bool:
        """Whether processes run in it."""
        return self.status == "Running"

    @property
    def stopped(self) -> bool:
        """Whether it is sure that none does: a frozen one goes on later, and some the daemon itself cannot judge."""
        return self.status == "Stopped"


class Volume(msgspec.Struct, frozen=True):
    """A custom storage volume."""

    name: str
    config: dict[str, str] = {}


class Image(msgspec.Struct, frozen=True):
    """An image in the daemon's own store."""

    fingerprint: str
    aliases: list[dict[str, str]] = []


class _Answer(msgspec.Struct, frozen=True):
    type: str
    operation: str = ""
    error: str = ""
    error_code: int = 0
    metadata: Any = None


class Operation(msgspec.Struct, frozen=True):
    """A background operation: 200 is success, 400 and above its failure."""

    id: str
    status_code: int = 0
    err: str = ""
    metadata: dict[str, Any] | None = None


class Daemon:
    """One daemon, seen from one project. Every method raises LimosaError's children only."""

    def __init__(self, endpoint: Endpoint, project: str) -> None:
        self.endpoint, self.project = endpoint, project
        self._http: httpx.AsyncClient | None = None

    @classmethod
    def open(cls, flavour: Flavour, remote: str, project: str) -> Daemon:
        """The daemon of this machine, or the one at *remote*. Raises MachineError when it cannot be reached."""
        return cls(find(flavour, remote), project)

    @property
    def flavour(self) -> Flavour:
        """Incus or LXD."""
        return self.endpoint.flavour

    async def close(self) -> None:
        """Let go of the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    # -- instances ----------------------------------------------------------------------------------------------------

    async def instances(self) -> list[Instance]:
        """Every instance of the project."""
        found = await self.ask("GET", "/1.0/instances", recursion="1")
        return self._shaped(list[Instance], found or [])

    async def instance(self, name: str) -> Instance | None:
        """The instance, or None."""
        with _absent():
            return self._shaped(Instance, await self.ask("GET", f"/1.0/instances/{quote(name)}"))
        return None

    async def create(self, instance: Mapping[str, Any]) -> None:
        """Make an instance; it is off."""
        await self.ask("POST", "/1.0/instances", dict(instance))

    async def change(self, name: str, **changes: Mapping[str, Any]) -> None:
        """Set single keys of ``config`` or single devices; the rest stays."""
        await self.ask("PATCH", f"/1.0/instances/{quote(name)}", changes)

    async def replace(self, instance: Instance, devices: Mapping[str, Any], config: Mapping[str, str]) -> None:
        """Give an instance exactly these own devices and settings, which is how single ones are taken away."""
        path = f"/1.0/instances/{quote(instance.name)}"
        whole = self._shaped(dict[str, Any], await self.ask("GET", path))
        await self.ask("PUT", path, whole | {"devices": dict(devices), "config": dict(config)})

    async def switch(self, name: str, action: str, *, force: bool = False) -> None:
        """``start`` or ``stop`` an instance; *force* is as pulling the plug."""
        body = {"action": action, "force": force, "timeout": -1}
        try:
            async with asyncio.timeout(SWITCH_S):
                await self.ask("PUT", f"/1.0/instances/{quote(name)}/state", body)
        except TimeoutError as error:
            raise MachineError(
                f"{self.flavour.title} does not {action} container {name} within {SWITCH_S:g} s",
                hint=f"{self.flavour.client} operation list shows what it waits for; restarting the daemon helps",
            ) from error

    async def delete(self, name: str) -> None:
        """Remove an instance that is off."""
        await self.ask("DELETE", f"/1.0/instances/{quote(name)}")

    async def execute(self, name: str, argv: list[str], env: Mapping[str, str], cwd: str) -> Operation:
        """Begin *argv* in a running instance; its streams wait to be connected as websockets."""
        body = {
            "command": argv,
            "environment": dict(env),
            "cwd": cwd,
            "wait-for-websocket": True,
            "interactive": False,
        }
        answer = await self._request("POST", f"/1.0/instances/{quote(name)}/exec", body, {})
        return self._shaped(Operation, answer.metadata)

    async def ended(self, operation: Operation, timeout_s: int) -> Operation:
        """What has become of *operation*, or has not yet when the time is over."""
        told = await self.ask("GET", f"/1.0/operations/{operation.id}/wait", None, timeout=str(timeout_s))
        return self._shaped(Operation, told)

    # -- volumes, images, projects ------------------------------------------------------------------------------------

    async def volumes(self, pool: str) -> list[Volume]:
        """The custom volumes of a pool. Raises MachineError for a pool that does not exist."""
        try:
            found = await self.ask("GET", f"/1.0/storage-pools/{quote(pool)}/volumes/custom", recursion="1")
        except DaemonError as error:
            if error.code != NOT_FOUND:
                raise
            names = await self.pools()
            raise MachineError(
                f"{self.flavour.title} has no storage pool {pool}",
                hint=f"it has {', '.join(names)}" if names else f"{self.flavour.client} storage create {pool} dir",
            ) from error
        return self._shaped(list[Volume], found or [])

    async def pools(self) -> list[str]:
        """The names of the storage pools."""
        return await self._names("/1.0/storage-pools")

    async def create_volume(self, pool: str, name: str, config: Mapping[str, str]) -> None:
        """Make a custom volume that holds files."""
        body = {"name": name, "type": "custom", "content_type": "filesystem", "config": dict(config)}
        await self.ask("POST", f"/1.0/storage-pools/{quote(pool)}/volumes/custom", body)

    async def delete_volume(self, pool: str, name: str) -> None:
        """Remove a custom volume and what is in it."""
        await self.ask("DELETE", f"/1.0/storage-pools/{quote(pool)}/volumes/custom/{quote(name)}")

    async def images(self) -> list[Image]:
        """The images in the daemon's own store."""
        return self._shaped(list[Image], await self.ask("GET", "/1.0/images", recursion="1") or [])

    async def projects(self) -> list[str]:
        """The names of the projects that the caller may see."""
        return await self._names("/1.0/projects")

    # -- the protocol -------------------------------------------------------------------------------------------------

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str) -> Any:
        """What the daemon answers; an operation that it began is waited for first."""
        answer = await self._request(method, path, body, query)
        if answer.type == "async":
            await self._finish(answer.operation)
            return None
        return answer.metadata

    async def _names(self, path: str) -> list[str]:
        """What *path* lists, by the last part of each address."""
        return [address.rsplit("/", 1)[-1] for address in self._shaped(list[str], await self.ask("GET", path) or [])]

    def _shaped(self, kind: type[T], told: Any) -> T:
        """What the daemon told, as *kind*. Raises MachineError for anything else."""
        try:
            return msgspec.convert(told, kind, strict=False)
        except msgspec.ValidationError as error:
            raise self._no_answer() from error

    def _no_answer(self) -> MachineError:
        return MachineError(f"{self.endpoint.words} gave an answer that is not its API's")

    async def _finish(self, operation: str) -> None:
        try:
            # The daemon answers when the operation has ended, however long that takes.
            waited = await self._request("GET", f"{operation}/wait", None, {"timeout": "-1"}, timeout_s=None)
        except asyncio.CancelledError:
            with contextlib.suppress(LimosaError):
                await tasks.uninterrupted(self._request("DELETE", operation, None, {}))
            raise
        ended = self._shaped(Operation, waited.metadata)
        if ended.status_code >= 400:
            hint = next((hint for words, hint in _HINTS.items() if words in ended.err), "")
            raise DaemonError(f"{self.flavour.title}: {_one_line(ended.err)}", hint=hint, code=ended.status_code)

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str],
        timeout_s: float | None = REQUEST_S,
    ) -> _Answer:
        import httpx

        client = self._client()
        content = None if body is None else msgspec.json.encode(body)
        try:
            response = await client.request(
                method, path, content=content, params={"project": self.project, **query}, timeout=timeout_s
            )
            answer = untrusted.decode(response.content, type=_Answer)
        except httpx.TimeoutException as error:
            raise MachineError(f"{self.endpoint.words} did not answer within {REQUEST_S:g} s") from error
        except httpx.HTTPError as error:
            raise MachineError(
                f"{self.endpoint.words} cannot be reached: {_one_line(str(error)) or type(error).__name__}",
                hint=f"{self.flavour.client} list shows whether it answers you",
            ) from error
        except msgspec.MsgspecError as error:
            raise self._no_answer() from error
        if answer.type == "error" or answer.error:
            raise self._refused(answer)
        return answer

    def _refused(self, answer: _Answer) -> LimosaError:
        if answer.error_code in (401, 403):
            return MachineError(
                f"{self.endpoint.words} does not trust this user's certificate",
                hint=f"add it there: {self.flavour.client} config trust add",
            )
        return DaemonError(f"{self.flavour.title}: {_one_line(answer.error)}", code=answer.error_code)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx

            # Without TLS, reading the authorities' certificates would be a tenth of a second for nothing.
            verify = self.endpoint.tls or False
            transport = httpx.AsyncHTTPTransport(uds=self.endpoint.socket or None, verify=verify)
            # No proxies, no .netrc: the daemon is where the lab file says.
            self._http = httpx.AsyncClient(transport=transport, base_url=self.endpoint.base, trust_env=False)
        return self._http


@contextlib.contextmanager
def _absent() -> Any:
    """Let "not found" pass; the caller goes on behind it."""
    try:
        yield
    except DaemonError as error:
        if error.code != NOT_FOUND:
            raise


def _one_line(text: str) -> str:
    return " ".join(text.split())
