"""The guest that ``limosa image build debian`` makes: a whole Debian with systemd, on a disk that boots by itself.

BIOS and UEFI start it, DHCP gives it its address, SSH lets root in by the image's own key. Built without root.
"""

from limosa.guest.debian.image import Choice, build, check, needed

__all__ = ["Choice", "build", "check", "needed"]
