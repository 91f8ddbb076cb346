"""The exercises about text: cutting it up, attending to it, and one space for texts and pictures."""

from ldm.lab.exercises.exercise import Exercise, wrong

IN_TEXT = (
    Exercise(
        "merge_pair",
        "glue a pair of neighbours wherever it stands, the step that byte-pair encoding repeats",
        "ldm.text.tokenizer",
        "merge_pair",
        # Learning merges with a wrong one may never end, so the tests of `ldm/text/bpe.py` are left out.
        ("tests/text/test_tokenizer.py::test_merging_goes_left_to_right_without_overlap",),
        (
            wrong("lets a piece belong to two pairs at once", "position += 2", "position += 1"),
            wrong(
                "glues the first occurrence only",
                "== pair:",
                "== pair and pair[0] + pair[1] not in merged:",
            ),
            wrong("glues the two halves in the wrong order", "pair[0] + pair[1]", "pair[1] + pair[0]"),
        ),
    ),
    Exercise(
        "attention",
        "how much each query looks at each key",
        "ldm.nn.attention",
        "attention_weights",
        ("tests/nn/test_attention.py",),
        (
            wrong("divides by d instead of sqrt(d)", "** -0.5", "** -1.0"),
            wrong("forgets to divide by sqrt(d)", "* q.shape[-1] ** -0.5", ""),
            wrong("takes the softmax over the queries instead of the keys", "dim=-1", "dim=-2"),
            wrong("forgets the causal mask", "if causal:", "if False:"),
        ),
    ),
    Exercise(
        "causal_mask",
        "hide the future from every position",
        "ldm.nn.attention",
        "hide_future",
        ("tests/nn/test_attention.py", "tests/text/test_transformer.py"),
        (
            wrong("hides each position from itself as well", "diagonal=1", "diagonal=0"),
            wrong("hides the past instead of the future", "triu(diagonal=1)", "tril(diagonal=-1)"),
            wrong("sets the scores to 0 instead of minus infinity", 'float("-inf")', "0.0"),
        ),
    ),
    Exercise(
        "heads",
        "several attentions side by side, each on its own slice of the channels",
        "ldm.nn.attention",
        "Attention.forward",
        ("tests/nn/test_attention.py",),
        (
            wrong(
                "deals the channels out to the heads like cards, instead of giving each head a slice",
                "(h d)",
                "(d h)",
            ),
            wrong(
                "takes keys and values from x, where a context was given",
                "self.k(context), self.v(context)",
                "self.k(x), self.v(x)",
            ),
            wrong("forgets to hand the causal mask on", "(q, k, v, causal)", "(q, k, v)"),
            wrong("forgets the last linear map", "self.out(", "("),
        ),
    ),
    Exercise(
        "quick_gelu",
        "OpenAI's shortcut for GELU",
        "ldm.text.transformer",
        "quick_gelu",
        ("tests/text/test_transformer.py",),
        (
            wrong("is SiLU: the factor 1.702 is missing", "1.702 * x", "x"),
            wrong("rounds the factor to 1.7", "1.702", "1.7"),
        ),
    ),
    Exercise(
        "pool",
        "find the one state that has read the whole text",
        "ldm.text.encoder",
        "pool",
        ("tests/text/test_encoder.py::test_pool_takes_the_first_end_mark", "tests/text/test_clip.py"),
        (
            wrong("reads the last position, which is padding", "ids.argmax(dim=-1)", "-1"),
            wrong("reads the first position, which has seen nothing", "ids.argmax(dim=-1)", "0"),
        ),
    ),
    Exercise(
        "contrastive_loss",
        "bring pictures and their texts together, and all other pairs apart",
        "ldm.text.clip",
        "contrastive_loss",
        ("tests/text/test_clip.py",),
        (
            wrong(
                "asks only which text belongs to a picture, and not the other way round",
                "(F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2",
                "F.cross_entropy(logits, target)",
            ),
            wrong(
                "adds the two cross-entropies instead of taking their mean",
                "(F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2",
                "F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)",
            ),
            wrong("uses the logarithm of the scale as the scale itself", ".exp()", ""),
            wrong("forgets that the scale is at most 100", ".clamp(max=MAX_SCALE)", ""),
        ),
    ),
)
