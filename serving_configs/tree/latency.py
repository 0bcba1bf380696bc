"""Latency and memory of a model, as the gate measured them and its manifest keeps them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LatencyProfile:
    """What was measured of a model on the machine of the gate.

    Attributes:
        latency: seconds of one image.
        batch: number of images of the second measurement; 1 when there was none.
        batch_latency: seconds of that many at once.
        memory_per_image: bytes that a further image in a batch needs, at most of all signatures.
    """

    latency: float
    batch: int
    batch_latency: float
    memory_per_image: int

    def predicted(self, images: int) -> float:
        """Seconds of a batch, by the line through both measurements."""
        if self.batch == 1:
            return self.latency * images
        each = max(0.0, (self.batch_latency - self.latency) / (self.batch - 1))
        return self.latency + each * (images - 1)
