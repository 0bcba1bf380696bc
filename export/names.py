"""Names of a model's blocks, of their attention and of their layers."""


def sa_block_name(block: int) -> str:
    """Name of the layer whose output a self-attention block's is."""
    return f"sa_ffn_block_{block}"


def ca_block_name(block: int) -> str:
    """Name of the layer whose output a class-attention block's is."""
    return f"ca_ffn_block_{block}"


def attention_name(block_name: str) -> str:
    """Key of a block's attention in the model's outputs, and the name of the layer that has it."""
    return f"{block_name}_att"


def layer_name(block_name: str, layer: str) -> str:
    """Name of a layer in a block; `layer` itself where `block_name` is empty."""
    return f"{block_name}_{layer}" if block_name else layer
