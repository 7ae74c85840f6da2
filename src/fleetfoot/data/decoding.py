"""Pictures decoded ahead of their use by a few threads, in order.

Pillow releases the interpreter lock while it decodes. At most two batches are decoded ahead, so
memory does not grow with the number of pictures. A picture that cannot be used keeps its place in
the order, with the reason, and takes no place in a batch.

C channels · H W space
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from fleetfoot.cores import usable_cores
from fleetfoot.data.images import MAX_BYTES, MAX_PIXELS
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.sources import Source
from fleetfoot.errors import ImageError


@dataclass(frozen=True)
class Decoded:
    """A decoded picture, (C, H, W) uint8, or the reason why there is none."""

    path: str
    pixels: Tensor | None = None
    error: str = ""
    size: tuple[int, int] = (0, 0)
    """Height and width of the picture itself, in pixels."""
    notes: tuple[str, ...] = ()
    """What was done to the picture, for example ``transparent: laid over white``."""


def decode(
    source: Source, preprocess: Preprocess, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Decoded:
    """Reads, checks, resizes and crops one picture; a fault goes into ``error``."""
    try:
        picture = source.open(max_pixels=max_pixels, max_bytes=max_bytes)
        image = picture.image
        return Decoded(
            source.path,
            preprocess.pixels(image),
            size=(image.height, image.width),
            notes=picture.notes,
        )
    except ImageError as error:
        return Decoded(source.path, error=error.reason)
    except ValueError as error:  # the picture is too narrow to be resized
        return Decoded(source.path, error=str(error))


def decoded(
    sources: Iterable[Source],
    preprocess: Preprocess,
    *,
    batch: int,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Generator[list[Decoded], None, None]:
    """The pictures in order, in lists that hold at most ``batch`` with pixels, and any number of
    pictures that cannot be used.

    Args:
        workers: number of decoding threads. Default: one for each core, two to four.
        max_pixels, max_bytes: limits for one picture, as in ``open_image``.
    """
    workers = workers or min(4, max(2, usable_cores()))
    remaining = iter(sources)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:

        def submit(count: int) -> Iterator[Future[Decoded]]:
            for source in islice(remaining, count):
                yield pool.submit(decode, source, preprocess, max_pixels, max_bytes)

        ahead = deque(submit(2 * batch + workers))
        waiting: list[Decoded] = []
        try:
            while ahead:
                waiting.append(ahead.popleft().result())
                ahead.extend(submit(1))
                usable = sum(item.pixels is not None for item in waiting)
                if usable == batch or not ahead or not usable:
                    yield waiting
                    waiting = []
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
