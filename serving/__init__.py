"""The local model server: TensorFlow Serving's API over published directories, in Python.

`serving.model_server` is the program. Nothing of this package loads TensorFlow before the flags
are read, because some of them have to be set before TensorFlow is; so what is imported from here
needs none.
"""

from .errors import Code, ServingError

__all__ = ["Code", "ServingError"]
