"""The whole course recipe by itself: two hosts, a guest, its migration, the benches, and a model answer of it all."""

from limosa.homework.chapters import HOMEWORK, Homework, PartResult
from limosa.homework.recipe import Handout, do, remake

__all__ = ["HOMEWORK", "Handout", "Homework", "PartResult", "do", "remake"]
