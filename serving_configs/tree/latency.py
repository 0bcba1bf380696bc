"""Latency and memory of a model, measured by the gate and kept in the manifest."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LatencyProfile:
    """Measurements of a model on the machine of the gate.

    Attributes:
        latency: seconds of one image.
        batch: number of images of the second measurement; 1 without one.
        batch_latency: seconds of a batch of that many.
        memory_per_image: bytes that an image adds to a batch, the most of all signatures.
    """

    latency: float
    batch: int
    batch_latency: float
    memory_per_image: int

    def predicted(self, images: int) -> float:
        """Seconds of a batch, on the line through both measurements."""
        if self.batch == 1:
            return self.latency * images
        each = max(0.0, (self.batch_latency - self.latency) / (self.batch - 1))
        return self.latency + each * (images - 1)
