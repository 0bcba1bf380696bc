"""Names of a model's blocks and of their attention, in summaries and outputs."""


def sa_block_name(block: int) -> str:
    """Name of a self-attention block's sub-model."""
    return f"sa_ffn_block_{block}"


def ca_block_name(block: int) -> str:
    """Name of a class-attention block's sub-model."""
    return f"ca_ffn_block_{block}"


def attention_name(block_name: str) -> str:
    """Key of a block's attention in the model's outputs."""
    return f"{block_name}_att"
