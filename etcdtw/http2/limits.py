"""The bounds that one HTTP/2 connection keeps, whatever its peer does."""

from __future__ import annotations

# Header blocks.
HEADER_BLOCK_BYTES_MAX = 64 * 1024  # compressed, HEADERS with all its CONTINUATION frames
CONTINUATION_FRAMES_MAX = 16  # of one header block
HEADER_LIST_BYTES_MAX = 128 * 1024  # uncompressed, 32 bytes per field on top (RFC 9113 6.5.2)
HEADER_TABLE_BYTES = 4096  # HPACK's dynamic table, both directions

# Frames that cost us and carry nothing.
CLIENT_RESETS_PER_SECOND_MAX = 100  # beyond the streams that were answered in that second
IDLE_FRAMES_PER_SECOND_MAX = 1000  # empty DATA, PRIORITY, SETTINGS, unknown, for closed streams
FRAMES_PER_ANSWER = 4  # of those, for each answer of that second: clients give windows back late
SETTINGS_STREAMS = 256  # so many open streams make a SETTINGS frame count once more
UNSENT_ACKS_MAX = 1000  # acknowledgements and resets we owe while the peer does not read

# Receiving. A window is given back when half of it is used.
FRAME_BYTES = 16384  # our SETTINGS_MAX_FRAME_SIZE, the protocol's default
STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024
OPEN_STREAMS_MAX = 65_536  # memory's bound where the configuration gives none

# Memories. All are forgotten as a whole when full.
BLOCK_CACHE_ENTRIES = 256
BLOCK_CACHE_BLOCK_BYTES = 1024  # larger blocks are not remembered
SHAPE_CACHE_ENTRIES = 64
RESET_MEMORY_STREAMS = 1000  # streams we reset, whose frames may still be on their way
