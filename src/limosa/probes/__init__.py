"""Probes: what measures a guest from outside or inside while something happens to it."""

from limosa.probes.session import ClientConfig, ClientProbe, EchoConfig, ServiceConfig, TickConfig

__all__ = ["ClientConfig", "ClientProbe", "EchoConfig", "ServiceConfig", "TickConfig"]
