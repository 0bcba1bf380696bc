"""Image preprocessing inside a TensorFlow graph: encoded bytes to normalised pixels.

The graph imitates the evaluation transform that timm 1.0.31 builds for CaiT (bicubic, crop_pct
1.0, centre crop), which works on Pillow images:

1. decode a JPEG or PNG to RGB, as ``PIL.Image.open(...).convert("RGB")`` does;
2. resize the short side to ``size`` (torchvision ``Resize``, Pillow bicubic);
3. cut the central ``size`` x ``size`` square (torchvision ``CenterCrop``);
4. scale to [0, 1] and normalise with the ImageNet mean and standard deviation.

The resize repeats the integer arithmetic of Pillow's ``src/libImaging/Resample.c``, so the pixels
equal Pillow's exactly. All operations are in a stock TensorFlow Serving.

Known differences from Pillow:

* A CMYK JPEG with ink in its black channel. TensorFlow's decoder converts to RGB by itself and
  rounds down where Pillow rounds to nearest, so a decoded value may be 1 lower than Pillow's.
* A PNG without its closing IEND chunk, with a wrong checksum in its pixel data, or with a side of
  more than 1,000,000 pixels is an error here, but not in Pillow.

EXIF orientation is ignored and alpha is dropped, both as Pillow does.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .image_header import JPEG_MAGIC, MAX_IMAGE_PIXELS, PNG_MAGIC

IMAGENET_MEAN: tuple[float, float, float] = (0.485, 0.456, 0.406)
"""Mean of each RGB channel, for values scaled to [0, 1]."""

IMAGENET_STD: tuple[float, float, float] = (0.229, 0.224, 0.225)
"""Standard deviation of each RGB channel, for values scaled to [0, 1]."""

_JPEG_START = JPEG_MAGIC[:2]
_PNG_HEADER_BYTES = 26  # magic, then the IHDR chunk as far as its colour type

# An APP14 "Adobe" segment with colour transform 0: version 100, two empty flag words.
_ADOBE_SEGMENT = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"

# Resample.c keeps weights as integers with PRECISION_BITS = 32 - 8 - 2 fractional bits.
_PRECISION_BITS = 22
_BICUBIC_SUPPORT = 2.0

# Image rows in one step of the horizontal pass. A step needs 12 bytes for each image column and
# row. On large images TensorFlow's sparse product is also two to three times faster with less than
# 32 columns, of which a row makes three (its channels).
_ROWS_PER_STEP = 8
_PARALLEL_STEPS = 4

# Images of a batch that are decoded at once. Each may need 150 MB (50 million RGB pixels).
_PARALLEL_IMAGES = 4


def decode_batch(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    """Decode, resize and crop a batch of encoded images.

    Args:
        image_bytes: string tensor of shape (B,), a whole JPEG or PNG file in each. B may be 0.
        size: side of the square to cut, in pixels; at least 1.

    Returns:
        uint8 tensor of shape (B, size, size, 3), RGB, 0 to 255.

    Raises:
        ValueError: ``size`` is less than 1.
        tf.errors.InvalidArgumentError: when run, if any image is refused; see `decode_and_crop`.
    """
    return tf.map_fn(
        lambda encoded: decode_and_crop(encoded, size),
        image_bytes,
        fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        parallel_iterations=_PARALLEL_IMAGES,
    )


def decode_and_crop(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decode one image, resize its short side to ``size`` and cut the central square.

    The pixels equal those of Pillow and torchvision, except in the cases that the module lists.

    Args:
        encoded: scalar string tensor, a whole JPEG or PNG file.
        size: side of the square to cut, in pixels; at least 1.

    Returns:
        uint8 tensor of shape (size, size, 3), RGB, 0 to 255.

    Raises:
        ValueError: ``size`` is less than 1.
        tf.errors.InvalidArgumentError: when run, if the string is empty, is neither JPEG nor PNG,
            claims more than `MAX_IMAGE_PIXELS` pixels (found before decoding), or is truncated or
            otherwise cannot be decoded. The message says which.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    # On a GPU each of the many small steps would need a launch and a copy.
    with tf.device("/CPU:0"):
        return _resize_and_crop(_decode_rgb(encoded), size)


def normalize(pixels: tf.Tensor) -> tf.Tensor:
    """Scale pixels to [0, 1], then subtract the ImageNet mean and divide by the deviation.

    The result equals, bit for bit, torchvision's ``ToTensor`` and ``Normalize`` in float32:
    ``(pixels / 255 - mean) / std``.

    Args:
        pixels: uint8 tensor of shape (B, S, S, 3) (or any other that ends in 3), RGB.

    Returns:
        float32 tensor of the same shape, about -2.12 to 2.64.
    """
    # A table, because TensorFlow's graph optimiser replaces a division by a constant with a
    # multiplication by its reciprocal, which rounds differently.
    values = np.arange(256, dtype=np.float32).reshape(256, 1)
    mean = np.array(IMAGENET_MEAN, np.float32)
    std = np.array(IMAGENET_STD, np.float32)
    table = (values / np.float32(255) - mean) / std
    entry = tf.cast(pixels, tf.int32) * 3 + tf.range(3)
    return tf.gather(tf.constant(table.reshape(-1)), entry)


def _decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG or PNG (scalar string) to uint8 (height, width, 3)."""
    # Padded, so that reading bytes of a short string is not an error of another kind.
    header = tf.strings.substr(encoded, 0, _PNG_HEADER_BYTES) + b"\0" * _PNG_HEADER_BYTES
    is_jpeg = tf.equal(tf.strings.substr(header, 0, len(JPEG_MAGIC)), JPEG_MAGIC)
    is_png = tf.equal(tf.strings.substr(header, 0, len(PNG_MAGIC)), PNG_MAGIC)
    found = tf.where(
        tf.equal(tf.strings.length(encoded), 0), "Input is empty.", "Unknown image file format."
    )
    message = tf.strings.join([found, " One of JPEG, PNG required."])
    with tf.control_dependencies([_require(is_jpeg | is_png, message)]):
        pixels = tf.cond(
            is_jpeg, lambda: _decode_jpeg(encoded), lambda: _decode_png(encoded, header)
        )
    return tf.ensure_shape(pixels, (None, None, 3))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    shape = tf.cast(tf.io.extract_jpeg_shape(encoded), tf.int64)
    with tf.control_dependencies([_require_decodable_size(shape[1], shape[0])]):
        # Pillow reads every four-channel JPEG as inverted, as Adobe writes them; TensorFlow does so
        # only with Adobe's segment. So that segment is put first. It has no effect on a file with
        # its own, because the last one counts.
        rest = tf.strings.length(encoded) - 2
        encoded = tf.cond(
            tf.equal(shape[2], 4),
            lambda: _JPEG_START + _ADOBE_SEGMENT + tf.strings.substr(encoded, 2, rest),
            lambda: tf.identity(encoded),
        )
    # Pillow uses libjpeg's defaults: the accurate DCT and the smooth chroma upsampling.
    return tf.io.decode_jpeg(
        encoded,
        channels=3,
        fancy_upscaling=True,
        try_recover_truncated=False,
        dct_method="INTEGER_ACCURATE",
    )


def _decode_png(encoded: tf.Tensor, header: tf.Tensor) -> tf.Tensor:
    # Magic (8 bytes), chunk length (4), "IHDR", width (4), height (4), bit depth, colour type.
    name_ok = tf.equal(tf.strings.substr(header, 12, 4), b"IHDR")
    ihdr = tf.cast(tf.io.decode_raw(tf.strings.substr(header, 16, 10), tf.uint8), tf.int64)
    place = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    width = tf.reduce_sum(ihdr[0:4] * place)
    height = tf.reduce_sum(ihdr[4:8] * place)
    gray16 = tf.equal(ihdr[8], 16) & tf.equal(ihdr[9], 0)

    def decode_gray16() -> tf.Tensor:
        # Pillow opens 16-bit gray as mode "I;16", whose conversion to RGB clips to 255.
        wide = tf.io.decode_png(encoded, channels=1, dtype=tf.uint16)
        clipped = tf.minimum(tf.cast(wide, tf.int32), 255)
        return tf.repeat(tf.cast(clipped, tf.uint8), 3, axis=2)

    with tf.control_dependencies(
        [
            _require(name_ok, tf.constant("Invalid PNG data, its first chunk is not IHDR")),
            _require_decodable_size(width, height),
        ]
    ):
        return tf.cond(gray16, decode_gray16, lambda: tf.io.decode_png(encoded, channels=3))


def _require_decodable_size(width: tf.Tensor, height: tf.Tensor) -> tf.Operation:
    claim = tf.strings.join(["image claims ", tf.as_string(width), "x", tf.as_string(height)])
    limit = f" pixels, more than the {MAX_IMAGE_PIXELS} that are decoded"
    # Both sides are below 2**32 and may overflow when multiplied; a quotient cannot.
    fits = width <= MAX_IMAGE_PIXELS // tf.maximum(height, 1)
    return _require(fits, tf.strings.join([claim, limit]))


def _require(condition: tf.Tensor, message: tf.Tensor) -> tf.Operation:
    """An operation that fails with INVALID_ARGUMENT and ``message`` unless ``condition``."""
    return tf.debugging.Assert(condition, [message])


def _resize_and_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resize uint8 (height, width, 3) to a short side of ``size``; cut the central square.

    Only the rows and columns that the square needs are computed.
    """
    shape = tf.shape(image, out_type=tf.int64)
    height, width = shape[0], shape[1]
    short = tf.minimum(height, width)
    rows, row_weights = _taps(height, short, size)
    columns, column_weights = _taps(width, short, size)
    top, bottom = tf.reduce_min(rows), tf.reduce_max(rows) + 1
    left, right = tf.reduce_min(columns), tf.reduce_max(columns) + 1
    across = _sparse(columns - left, column_weights, right - left)
    down = _sparse(rows - top, row_weights, bottom - top)

    def squeeze_rows(step: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        first = top + step * _ROWS_PER_STEP
        part = image[first : tf.minimum(first + _ROWS_PER_STEP, bottom), left:right]
        count = tf.shape(part, out_type=tf.int64)[0]
        by_column = tf.reshape(tf.transpose(part, (1, 0, 2)), (right - left, count * 3))
        squeezed = tf.reshape(_weigh(across, by_column), (size, count, 3))
        return step + 1, done.write(tf.cast(step, tf.int32), tf.transpose(squeezed, (1, 0, 2)))

    # Pillow resizes the width first and rounds to 8 bits before it resizes the height.
    steps = (bottom - top + _ROWS_PER_STEP - 1) // _ROWS_PER_STEP
    parts = tf.TensorArray(
        tf.uint8, tf.cast(steps, tf.int32), infer_shape=False, element_shape=(None, size, 3)
    )
    _, parts = tf.while_loop(
        lambda step, _: step < steps,
        squeeze_rows,
        (tf.constant(0, tf.int64), parts),
        parallel_iterations=_PARALLEL_STEPS,
    )
    narrow = tf.reshape(parts.concat(), (bottom - top, size * 3))
    return tf.reshape(_weigh(down, narrow), (size, size, 3))


def _taps(length: tf.Tensor, short: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The inputs and weights of each output along one dimension of the square.

    Args:
        length: scalar int64, the image's extent in this dimension.
        short: scalar int64, the image's short side.
        size: side of the square.

    Returns:
        Input positions, int64 (size, taps), and their fixed-point weights, int32 (size, taps).
    """
    # torchvision Resize: the long side becomes int(size * long / short). The division is exact
    # for the short side, so it needs no case of its own.
    resized = tf.cast(tf.cast(size * length, tf.float64) / tf.cast(short, tf.float64), tf.int64)
    # torchvision CenterCrop: int(round((resized - size) / 2.0)), and halves go to even.
    excess = tf.cast(resized - size, tf.float64)
    offset = tf.cast(tf.round(excess / 2.0), tf.int64)

    # precompute_coeffs of Resample.c, in its order of operations, for the outputs kept.
    scale = tf.cast(length, tf.float64) / tf.cast(resized, tf.float64)
    filter_scale = tf.maximum(scale, 1.0)
    support = _BICUBIC_SUPPORT * filter_scale
    output = tf.cast(offset + tf.range(size, dtype=tf.int64), tf.float64)
    center = (output + 0.5) * scale
    first = tf.cast(tf.maximum(center - support + 0.5, 0.0), tf.int64)
    end = tf.minimum(tf.cast(center + support + 0.5, tf.int64), length)
    position = first[:, tf.newaxis] + tf.range(tf.reduce_max(end - first))
    distance = tf.cast(position, tf.float64) - center[:, tf.newaxis] + 0.5
    weight = _bicubic(tf.abs(distance * (1.0 / filter_scale)))
    weight = tf.where(position < end[:, tf.newaxis], weight, 0.0)
    # A running sum adds from the left, as C does; reduce_sum may add in another order.
    weight = weight / tf.cumsum(weight, axis=1)[:, -1:]

    # normalize_coeffs_8bpc: round half away from zero. A cast to integer truncates, as in C.
    weight = weight * float(1 << _PRECISION_BITS)
    fixed = tf.cast(tf.where(weight < 0.0, weight - 0.5, weight + 0.5), tf.int32)
    # Positions past the end have weight 0, but have to be valid.
    return tf.minimum(position, length - 1), fixed


def _bicubic(x: tf.Tensor) -> tf.Tensor:
    """Resample.c's bicubic_filter (a = -0.5) at distances ``x`` >= 0, float64, any shape."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return tf.where(x < 1.0, near, tf.where(x < _BICUBIC_SUPPORT, far, 0.0))


def _sparse(positions: tf.Tensor, weights: tf.Tensor, length: tf.Tensor) -> tf.SparseTensor:
    """The taps of `_taps` as an int32 matrix of shape (size, length)."""
    shape = tf.shape(positions, out_type=tf.int64)
    outputs = tf.broadcast_to(tf.range(shape[0])[:, tf.newaxis], shape)
    indices = tf.reshape(tf.stack((outputs, positions), axis=-1), (-1, 2))
    return tf.SparseTensor(indices, tf.reshape(weights, (-1,)), tf.stack((shape[0], length)))


def _weigh(taps: tf.SparseTensor, values: tf.Tensor) -> tf.Tensor:
    """Apply taps (size, length) to uint8 (length, n), rounding and clipping to uint8 (size, n).

    The products and their sum are exact in int32, as in ImagingResampleHorizontal_8bpc.
    """
    total = tf.sparse.sparse_dense_matmul(taps, tf.cast(values, tf.int32))
    rounded = tf.bitwise.right_shift(total + (1 << (_PRECISION_BITS - 1)), _PRECISION_BITS)
    return tf.cast(tf.clip_by_value(rounded, 0, 255), tf.uint8)
