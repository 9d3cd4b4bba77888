"""How the bundled checkpoint is made: scenes, questions, a network, a trainer, an evaluation.

It knows nothing of the page or of its engines; they meet its work as a checkpoint folder like
any other.
"""
