"""What the C library does with memory that was freed."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # mallopt's parameters, from malloc.h
# What a process that asks for nothing has once it freed a block of 32 MiB: by itself glibc moves its thresholds so
# far, and no more once it was asked for anything.
DEFAULTS = {M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**26, M_MMAP_MAX: 65536}
KEEPING = {M_TRIM_THRESHOLD: 2**31 - 1, M_MMAP_MAX: 0}


def keep_freed_memory(on: bool = True) -> bool:
    """Let the process keep what it frees instead of giving it back to the system; False restores the default.

    Feature maps are large: by default the system hands each one out anew and clears it page by page, which takes as
    long as much of what is computed in them.

    Returns:
        Whether this C library knows how (glibc does).
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        done = all(libc.mallopt(name, value) for name, value in (KEEPING if on else DEFAULTS).items())
        if not on:
            libc.malloc_trim(0)
    except (OSError, AttributeError):
        return False
    return done
