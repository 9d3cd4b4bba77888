"""How much a file may cost before it is refused. The checks stand where files are read.

The defaults let through what phones and cameras make and stop what is made to hurt: a 20 kB PNG
of 169 megapixels, an 8192 x 4320 video, a file that never ends.
"""

from dataclasses import dataclass

MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings for one file, one decoding child and what is kept.

    How many files a conversation may have is not among them: that is the context's business.
    """

    image_bytes: int = 64 * MB  # file size
    image_pixels: int = 64_000_000  # width * height as the header says; phones make 50 megapixels
    image_side: int = 65_535  # px, the longer side
    video_bytes: int = 4096 * MB  # file size
    video_pixels: int = 40_000_000  # of one frame; 8192 x 4320 has 35 million
    video_frames: int = 4_000_000  # of the whole video: 37 hours at 30 per second
    child_s: float = 60.0  # wall time of one visit to the decoding child
    child_cpu_s: int = 120  # its processor time, all threads together
    child_bytes: int = 2048 * MB  # its address space; imports alone map 250 MB
    cache_bytes: int = 512 * MB  # tiles and previews kept between questions
    index_bytes: int = 64 * MB  # time stamps of videos kept: 9 bytes a frame
