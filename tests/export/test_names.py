"""Names that users have in summaries, scripts and stored replies: a change would break them."""

from export.names import attention_name, ca_block_name, sa_block_name


def test_names_of_blocks_and_of_their_attention() -> None:
    assert [sa_block_name(0), sa_block_name(23)] == ["sa_ffn_block_0", "sa_ffn_block_23"]
    assert [ca_block_name(0), ca_block_name(1)] == ["ca_ffn_block_0", "ca_ffn_block_1"]
    assert attention_name(sa_block_name(7)) == "sa_ffn_block_7_att"
    assert attention_name(ca_block_name(1)) == "ca_ffn_block_1_att"
