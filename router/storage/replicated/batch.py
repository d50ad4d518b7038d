"""Codec of the log's records: transactions as SQLite patchsets, compressed, and cut into parts that fit a record.

Source: protos/flowhook/storage/v1/batch.proto.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import zstandard
from google.protobuf.message import DecodeError

from flowhook.errors import ConflictError
from flowhook.storage.v1 import batch_pb2 as pb

FORMAT: Final = 1
COMPRESS_BYTES: Final = 4096
"""Patchsets above this size are compressed: JSON shrinks to about a quarter, for 0.1 to 0.3 ms per 64 KiB."""
COMPRESSION_LEVEL: Final = 1
MAX_PATCHSET_BYTES: Final = 256 * 1024 * 1024  # largest patchset that is unpacked
HEADER_BYTES: Final = 256  # bytes of a record that may be used by anything but the patchset


class RecordUnknownError(ConflictError):
    """A record that this version can't read: following stops, loudly, until the router is updated or the log mended."""

    default_reason = "LOG_RECORD_UNKNOWN"


@dataclass(frozen=True, slots=True)
class BatchWriter:
    """Who writes the records."""

    shard: int  # from 0
    epoch: int  # number of the ownership, from 1
    writer: bytes  # nonce of the process and ownership, 16 random bytes
    schema: int  # version of the database format


@dataclass(frozen=True, slots=True)
class BatchPart:
    """One record: a transaction, or a part of it."""

    ownership: BatchWriter  # who wrote it
    number: int  # of the transaction within the ownership, from 1
    time_ms: int  # when, by the writer's clock (Unix time)
    part: int  # from 0
    parts: int  # number of parts, from 1
    previous: bytes  # hash of the record before; empty for the first one
    compressed: bool  # whether all parts together are compressed
    patchset: bytes  # this part's bytes

    @property
    def batch_id(self) -> str:
        return f"{self.ownership.epoch}:{self.ownership.writer.hex()}:{self.number}:{self.part}"

    def follows(self, earlier: BatchPart) -> bool:
        """Whether this is the part after `earlier` of the same transaction."""
        ours, theirs = ((each.ownership, each.number, each.parts) for each in (self, earlier))
        return ours == theirs and self.part == earlier.part + 1


def record_hash(data: bytes) -> bytes:
    """Return the 16 bytes by which the next record names this one."""
    return hashlib.sha256(data).digest()[:16]


def split(patchset: bytes, max_record_bytes: int) -> tuple[bool, list[bytes]]:
    """Compress a patchset where that pays, and cut it for records of a size; return whether it did, and the pieces."""
    compressed = len(patchset) > COMPRESS_BYTES
    content = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(patchset) if compressed else patchset
    size = max_record_bytes - HEADER_BYTES
    return compressed, [content[start : start + size] for start in range(0, len(content), size)]


def join(parts: list[BatchPart]) -> bytes:
    """Return the patchset of a transaction; raises RecordUnknownError if it can't be unpacked."""
    content = b"".join(part.patchset for part in parts)
    if not parts[0].compressed:
        return content
    try:
        return zstandard.ZstdDecompressor().decompress(content, max_output_size=MAX_PATCHSET_BYTES)
    except zstandard.ZstdError:
        raise RecordUnknownError(f"the record {parts[-1].batch_id} of the log can't be unpacked") from None


def encode(part: BatchPart) -> bytes:
    """Return the bytes of a part of a batch, as the log stores them."""
    ownership = part.ownership
    return pb.Batch(
        format=FORMAT,
        shard=ownership.shard,
        epoch=ownership.epoch,
        writer=ownership.writer,
        number=part.number,
        time_ms=part.time_ms,
        part=part.part,
        parts=part.parts,
        schema=ownership.schema,
        previous=part.previous,
        compression=pb.COMPRESSION_ZSTD if part.compressed else pb.COMPRESSION_NONE,
        patchset=part.patchset,
    ).SerializeToString()


def decode(data: bytes) -> BatchPart:
    """Parse a record's data; raises RecordUnknownError if it is damaged, or a later version wrote it."""
    try:
        batch = pb.Batch.FromString(data)
    except DecodeError:
        raise RecordUnknownError("a record of the log is damaged") from None
    if batch.format != FORMAT or batch.compression not in (pb.COMPRESSION_NONE, pb.COMPRESSION_ZSTD):
        raise RecordUnknownError(f"the log has a record of format {batch.format}: this version reads format {FORMAT}")
    if not batch.epoch or not batch.part < batch.parts:
        raise RecordUnknownError("a record of the log is damaged")
    return BatchPart(
        BatchWriter(batch.shard, batch.epoch, batch.writer, batch.schema),
        batch.number,
        batch.time_ms,
        batch.part,
        batch.parts,
        batch.previous,
        batch.compression == pb.COMPRESSION_ZSTD,
        batch.patchset,
    )
