"""What kinds of pictures there are, and what pages call them."""

# Folders under images/, and the keys of what models give to be shown.
LABEL, SYNTHESIZED, REAL = "input_label", "synthesized_image", "real_image"
EVALUATION = "evaluation_mode"  # in training: what test.py would make
STYLE = "style_image"
CAPTIONS = {LABEL: "layout", SYNTHESIZED: "synthesised", REAL: "real", EVALUATION: "in evaluation mode, as test.py"}


def caption_of(name: str) -> str:
    """What pages call a kind of picture."""
    return CAPTIONS.get(name, name.replace("_", " "))
