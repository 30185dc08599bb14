"""The micro image, built before a test needs it: so that no test's time holds that, nor a desk without a way out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from limosa.events import Events
from limosa.guest import built_images
from limosa.guest.agent import executable


def at_hand() -> Path:
    """Its directory in the cache, as guests with the agent take it."""
    agent = asyncio.run(executable.ensure(Events()))
    return asyncio.run(built_images.ensure("micro", Events(), agent=agent)).directory
