"""Installing a system as a person would: a script of expectations and answers, played on a machine's text console."""

from limosa.guest.installer.player import Surprise, play
from limosa.guest.installer.script import Prompt, Script, Secret, Step, command
from limosa.guest.installer.text_console import Console
from limosa.guest.installer.transcript import Transcript

__all__ = ["Console", "Prompt", "Script", "Secret", "Step", "Surprise", "Transcript", "command", "play"]
