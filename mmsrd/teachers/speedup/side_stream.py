"""Work on a stream of its own, beside what the device does next."""
from __future__ import annotations

from typing import Callable, TypeVar

import torch

T = TypeVar('T')


class SideStream:
    """Runs work beside the current stream until :meth:`synchronize`; elsewhere than on CUDA it is done at once.

    The work begins when the device has done what was queued so far, and what is queued
    after :meth:`synchronize` begins when the work is done. Keep what the work reads until then:
    memory that is freed before may be handed out while the work still reads it.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._busy: torch.device | None = None

    def __reduce__(self) -> tuple[type[SideStream], tuple[()]]:
        return SideStream, ()  # a copy has streams of its own

    def run(self, work: Callable[[], T], device: torch.device) -> T:
        """Queue ``work``, which must not wait for the device."""
        if device.type != 'cuda':
            return work()
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream = self._streams[device]
        stream.wait_stream(torch.cuda.current_stream(device))
        self._busy = device
        with torch.cuda.stream(stream):
            return work()

    def synchronize(self) -> None:
        """Let what is queued from now on wait for the work; the host does not wait."""
        if self._busy is not None:
            torch.cuda.current_stream(self._busy).wait_stream(self._streams[self._busy])
            self._busy = None
