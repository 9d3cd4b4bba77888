"""Answering several requests at once on one device, token by token.

    batch.py      who is in, who may come in, and what each of them is given
    writing.py    one answer among them: its tokens, and how it ended
    steps.py      transformers' continuous batching, driven one step at a time
    packed.py     the network as those steps call it: virtual ids in, logits out
    places.py     where requests are in a step, and who is computed with whom
    pages.py      each request's attention over its own pages of keys and values
    pictures.py   virtual token ids and the features that stand behind them
    sampling.py   chance, for the rows of a step that want it
    ability.py    which models and which requests can be answered so
    size.py       how much memory that may take

Everything runs in the model's one thread. Importing this package does not import torch.
"""
