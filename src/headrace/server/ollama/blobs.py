"""Files of models that are to be made, sent beforehand as blobs: of any size, and each named by its digest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from headrace.errors import FileInvalid, RequestInvalid, TooLarge
from headrace.library.files import disk_errors
from headrace.library.manifest import LARGEST_BLOB
from headrace.library.progress import Progress
from headrace.library.store import Store
from headrace.server.endpoint import Call, Reply
from headrace.server.ollama import making
from headrace.server.wire import Body, Fields
from headrace.server.works import Work

CHECKED_BYTES: Final = 16 << 20  # that are received between two looks at the room on the disk
TYPE: Final = "application/octet-stream"  # what it is a part of will say what it is
_TEXT: Final = "text/plain; charset=utf-8"


async def has(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
    """Whether a blob is there."""
    digest = making.digest(call.path("digest"))
    if await asyncio.to_thread(call.house.library.store.renew, digest):
        return Reply(b"", media_type=_TEXT)
    return Reply.json({"error": f'blob "{digest}" not found'}, 404)


async def receive(call: Call, body: Body) -> Reply:
    """Takes a blob, if it is what its digest says."""
    digest, store = making.digest(call.path("digest")), call.house.library.store
    size = _size(call)
    if await asyncio.to_thread(store.renew, digest):
        if "expect" not in call.headers:
            await _passed_over(body, store.blob(digest).stat().st_size)
        return Reply(b"", media_type=_TEXT)
    loop = asyncio.get_running_loop()

    def pieces() -> Iterator[bytes]:
        while piece := asyncio.run_coroutine_threadsafe(body.piece(), loop).result():
            yield piece

    with call.house.works.doing(lambda work: _keep(store, digest, size, pieces(), work)) as work:
        async for _ in work:
            pass
    return Reply(b"", 201, _TEXT)


def _size(call: Call) -> int:
    """0 where that is not said. Raises TooLarge."""
    said = call.headers.get("content-length", "")
    size = int(said) if said.isdecimal() else 0
    if size > LARGEST_BLOB:
        raise TooLarge(f"a blob has at most {LARGEST_BLOB} bytes")
    return size


async def _passed_over(body: Body, size: int) -> None:
    """Who sends it all the same hears better when all is said; but no more is listened to than there can be."""
    while size >= 0 and (piece := await body.piece()):
        size -= len(piece)


def _keep(store: Store, digest: str, size: int, pieces: Iterator[bytes], work: Work) -> None:
    """Raises RequestInvalid if it is something else; TooLarge, StoreRefused, and what `pieces` does."""
    store.room_for(size)
    with store.writing() as session, session.scratch() as path:
        with disk_errors(path), path.open("xb") as file:
            for piece in _with_room(store, pieces):
                work.report(Progress("receiving"))
                file.write(piece)
        try:
            session.adopt(path, TYPE, digest, lambda done, total: work.report(Progress("checking", None, total, done)))
        except FileInvalid as error:
            raise RequestInvalid(f"digest mismatch: {error}") from None


def _with_room(store: Store, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Others may fill the disk meanwhile, and not everybody says how much is to come."""
    received = checked = 0
    for piece in pieces:
        received += len(piece)
        if received > LARGEST_BLOB:
            raise TooLarge(f"a blob has at most {LARGEST_BLOB} bytes")
        if received > checked:
            store.room_for(CHECKED_BYTES)
            checked = received + CHECKED_BYTES
        yield piece
