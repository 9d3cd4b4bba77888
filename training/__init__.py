"""How the bundled checkpoint was made: scenes, questions, a small network, a trainer, an evaluation.

It knows nothing of the page or of its engines; they meet it only as a checkpoint folder like any other.
"""
